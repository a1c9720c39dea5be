// SQLite behind two small classes. The journal is one that stays (journal_mode=PERSIST): reading then writes nothing at all, so that it
// works on a full or read-only disk (WAL needs a file for it), and what deletes a row finds the journal's space taken already. "Busy" is
// waited for.
#include "pipeline/sql.h"

#include <sqlite3.h>

#include <cerrno>

namespace fettle {
namespace {

constexpr int kBusyMilliseconds = 30000;

}  // namespace

DamagedDatabase::DamagedDatabase(const fs::path& path, const std::string& message)
    : Error(Exit::refused, path.string(), message,
            "`fettle doctor --mend` rebuilds it from the cards beside the models; what is left of it is kept under another name") {}

Sql::Sql(const fs::path& path) : path_(path) {
  if (sqlite3_open_v2(path.c_str(), &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, nullptr) != SQLITE_OK) {
    std::string why = db_ ? sqlite3_errmsg(db_) : "out of memory";
    sqlite3_close(db_);
    throw failed(path.string(), "cannot be opened: " + why, "FETTLE_HOME names another place for models and runs");
  }
  sqlite3_busy_timeout(db_, kBusyMilliseconds);
  // where this fails, the first statement tells what is wrong
  sqlite3_exec(db_, "PRAGMA journal_mode=PERSIST", nullptr, nullptr, nullptr);
}

Sql::~Sql() { sqlite3_close(db_); }

void Sql::fail(const std::string& doing) const {
  const int code = sqlite3_errcode(db_), system = sqlite3_system_errno(db_);
  const std::string why = sqlite3_errmsg(db_);
  switch (code) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR:  // our statements fit our tables: these are others
      throw DamagedDatabase(path_, "is damaged: " + why);
    case SQLITE_BUSY:
      throw failed(path_.string(), "could not " + doing + ": another fettle process holds it", "try again");
    case SQLITE_FULL:
      throw failed(path_.string(), "could not " + doing + ": " + system_text(ENOSPC), space_hint(path_));
    case SQLITE_READONLY:
      throw failed(path_.string(), "could not " + doing + ": it, or its disk, is read-only");
    default:
      throw failed(path_.string(), "could not " + doing + ": " + (system ? system_text(system) : why),
                   system == ENOSPC ? space_hint(path_) : "");
  }
}

void Sql::run(const std::string& statements) {
  if (sqlite3_exec(db_, statements.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) fail("be written");
}

void Sql::transaction(const std::function<void()>& body) {
  // SQLite would begin all the same, and refuse the first change only: the body may do more than statements
  if (sqlite3_db_readonly(db_, "main") == 1) throw failed(path_.string(), "could not be written: it, or its disk, is read-only");
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
