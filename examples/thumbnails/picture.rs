//! Pictures: where they come from, what they will need, and how they become small.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageDecoder, ImageReader, Limits, Rgb, RgbImage};

/// The drawn pictures, in pixels: as a camera makes them.
const DRAWN: (u32, u32) = (4000, 3000);
const DRAWN_NAMES: [&str; 6] = ["dune", "fern", "harbour", "lava", "reef", "storm"];
/// Pictures beyond this are refused, and not tried.
const MOST_BYTES: u64 = 400 << 20;
/// What encoding, file and stack need beside the decoded picture.
const BESIDE: u64 = 4 << 20;

/// What a picture is made from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

impl Source {
    fn bytes(&self) -> io::Result<Arc<[u8]>> {
        match self {
            Source::File(path) => std::fs::read(path).map(Into::into),
            Source::Bytes(bytes) => Ok(Arc::clone(bytes)),
        }
    }

    /// How many bytes of memory a thumbnail of it takes: from its head, without decoding it.
    pub(crate) fn needs(&self) -> Result<u64, String> {
        let (head, encoded) = match self {
            Source::File(path) => {
                let said = |error: io::Error| format!("{}: {error}", path.display());
                let length = std::fs::metadata(path).map_err(said)?.len();
                let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
                (reader.map_err(said)?.into_decoder().map(|decoder| decoder.total_bytes()), length)
            }
            Source::Bytes(bytes) => {
                let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
                let reader = reader.map_err(|error| error.to_string())?;
                (reader.into_decoder().map(|decoder| decoder.total_bytes()), bytes.len() as u64)
            }
        };
        let decoded = head.map_err(|error| format!("this is no picture that can be read: {error}"))?;
        if decoded > MOST_BYTES {
            return Err(format!("the picture takes {} MiB; send a smaller one", decoded >> 20));
        }
        // Decoded, and once more if its pixels are not plain RGB.
        Ok(2 * decoded + encoded + BESIDE)
    }
}

/// Decodes, shrinks and encodes: all of it CPU-bound.
pub(crate) fn thumbnail(source: &Source, width: u32) -> Result<Vec<u8>, String> {
    let bytes = source.bytes().map_err(|error| error.to_string())?;
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| error.to_string())?;
    let small = picture.thumbnail(width, width).into_rgb8();
    let mut jpeg = Vec::new();
    small
        .write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, 85))
        .map_err(|error| error.to_string())?;
    Ok(jpeg)
}

/// What the service shows, by name.
#[derive(Debug)]
pub(crate) struct Gallery(BTreeMap<String, Source>);

impl Gallery {
    /// The PNG and JPEG files of a directory.
    pub(crate) fn read(dir: &Path) -> io::Result<Self> {
        let mut pictures = BTreeMap::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            let is_picture = ["png", "jpg", "jpeg"].iter().any(|kind| extension.eq_ignore_ascii_case(kind));
            if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| is_picture) {
                pictures.insert(name.to_owned(), Source::File(path.clone()));
            }
        }
        if pictures.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no PNG or JPEG file in it"));
        }
        Ok(Self(pictures))
    }

    /// Pictures that the service draws itself.
    pub(crate) fn drawn() -> Self {
        let names = DRAWN_NAMES.iter().enumerate();
        Self(names.map(|(seed, name)| (format!("{name}.jpg"), Source::Bytes(draw(seed, DRAWN)))).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Source> {
        self.0.get(name)
    }
}

/// Waves over each other, as JPEG.
pub(crate) fn draw(seed: usize, (width, height): (u32, u32)) -> Arc<[u8]> {
    let seed = seed as f32;
    // Waves along each axis, looked up: a sine a pixel would take seconds.
    let waves = |length: u32, cycles: f32| -> Vec<f32> {
        let step = cycles * std::f32::consts::TAU / length as f32;
        (0..length).map(|i| (step * i as f32 + seed).sin() + 0.5 * (2.7 * step * i as f32).cos()).collect()
    };
    let (across, down) = (waves(width, 1.3 + seed * 0.4), waves(height, 1.9 + seed * 0.3));
    let (fine, grain) = (waves(width, 9.0 + seed), waves(height, 23.0 - seed));
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (x as usize, y as usize);
        let hills = across[x] * down[y] + 0.2 * fine[x] * grain[y];
        let channel = |phase: f32| (128.0 + 75.0 * (hills + phase * down[y])).clamp(0.0, 255.0) as u8;
        Rgb([channel(0.3 + 0.1 * seed), channel(0.6 - 0.1 * seed), channel(0.9)])
    });
    let mut jpeg = Vec::new();
    picture
        .write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, 90))
        .expect("a picture in memory can be encoded");
    jpeg.into()
}
