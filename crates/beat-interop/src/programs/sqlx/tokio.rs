// SQLite through sqlx: a pool, statements at the same time, transactions kept and rolled back.

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{Row, SqlitePool};

async fn deposit(pool: SqlitePool, account: i64, amount: i64) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::query("UPDATE accounts SET balance = balance + ? WHERE id = ?")
        .bind(amount)
        .bind(account)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

#[tokio::main]
pub(crate) async fn main() {
    let path = std::env::temp_dir().join(format!("beat-sqlx-{}.db", std::process::id()));
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(std::time::Duration::from_secs(60));
    let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await.unwrap();
    sqlx::query("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")
        .execute(&pool)
        .await
        .unwrap();
    for account in 0..4_i64 {
        sqlx::query("INSERT INTO accounts VALUES (?, 0)").bind(account).execute(&pool).await.unwrap();
    }
    let deposits: Vec<_> = (0..64).map(|n| tokio::spawn(deposit(pool.clone(), n % 4, n))).collect();
    for deposit in deposits {
        deposit.await.unwrap().unwrap();
    }
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("DELETE FROM accounts").execute(&mut *transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    for row in sqlx::query("SELECT id, balance FROM accounts ORDER BY id").fetch_all(&pool).await.unwrap() {
        println!("account {}: {}", row.get::<i64, _>(0), row.get::<i64, _>(1));
    }
    println!("wrong: {}", sqlx::query("SELECT no such thing").execute(&pool).await.is_err());
    pool.close().await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = tokio::fs::remove_file(format!("{}{suffix}", path.display())).await;
    }
}
