// SQLite behind two small classes. WAL lets readers go on while one process writes; "busy" is waited for, also while the mode is switched,
// where SQLite's own timeout does not help.
#include "pipeline/sql.h"

#include <sqlite3.h>

#include <chrono>
#include <thread>

namespace fettle {
namespace {

constexpr int kBusyMilliseconds = 30000;

}  // namespace

Sql::Sql(const fs::path& path) : path_(path) {
  if (sqlite3_open_v2(path.c_str(), &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, nullptr) != SQLITE_OK) {
    std::string why = db_ ? sqlite3_errmsg(db_) : "out of memory";
    sqlite3_close(db_);
    throw failed(path.string(), "cannot be opened: " + why, "FETTLE_HOME names another place for models and runs");
  }
  sqlite3_busy_timeout(db_, kBusyMilliseconds);
  for (int attempt = 0;; attempt++) {
    int code = sqlite3_exec(db_, "PRAGMA journal_mode=WAL", nullptr, nullptr, nullptr);
    if (code == SQLITE_OK || code == SQLITE_READONLY) break;
    if (code != SQLITE_BUSY || attempt == 200) {
      try {
        fail("read");
      } catch (...) {
        sqlite3_close(db_);
        throw;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

Sql::~Sql() { sqlite3_close(db_); }

void Sql::fail(const std::string& doing) const {
  int code = sqlite3_errcode(db_);
  std::string why = sqlite3_errmsg(db_);
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
    throw refused(path_.string(), "is damaged: " + why,
                  "move it away, then `fettle doctor --mend` rebuilds it from the cards beside the models");
  throw failed(path_.string(), "could not " + doing + ": " + why, code == SQLITE_BUSY ? "another fettle process holds it: try again" : "");
}

void Sql::run(const std::string& statements) {
  if (sqlite3_exec(db_, statements.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) fail("be written");
}

void Sql::transaction(const std::function<void()>& body) {
  run("BEGIN IMMEDIATE");
  try {
    body();
    run("COMMIT");
  } catch (...) {
    sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
}

Query::Query(const Sql& sql, std::string_view text) : sql_(sql) {
  if (sqlite3_prepare_v2(sql.handle(), text.data(), int(text.size()), &statement_, nullptr) != SQLITE_OK) sql.fail("be read");
}

Query::~Query() { sqlite3_finalize(statement_); }

Query& Query::bind(std::string_view text) {
  if (sqlite3_bind_text(statement_, ++bound_, text.data(), int(text.size()), SQLITE_TRANSIENT) != SQLITE_OK) sql_.fail("be written");
  return *this;
}

Query& Query::bind(int64_t number) {
  if (sqlite3_bind_int64(statement_, ++bound_, number) != SQLITE_OK) sql_.fail("be written");
  return *this;
}

bool Query::step() {
  int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  sql_.fail("be used");
}

std::string Query::text(int column) const {
  const unsigned char* bytes = sqlite3_column_text(statement_, column);
  return bytes ? std::string(reinterpret_cast<const char*>(bytes), size_t(sqlite3_column_bytes(statement_, column))) : std::string();
}

int64_t Query::integer(int column) const { return sqlite3_column_int64(statement_, column); }

}  // namespace fettle
