// Private to pipeline: SQLite with errors as fettle tells them. Thin on purpose: a connection and a statement.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/base.h"

struct sqlite3;
struct sqlite3_stmt;

namespace fettle {

// The database's bytes are not what they were, or are gone. Its hint names the way out: `fettle doctor --mend`.
struct DamagedDatabase : Error {
  DamagedDatabase(const fs::path& path, const std::string& message);
};

class Sql {
 public:
  // Opens or makes it, only to read where the disk allows no more; waits for other processes up to half a minute. ":memory:" is an empty
  // one that is nowhere.
  explicit Sql(const fs::path& path);
  ~Sql();
  Sql(const Sql&) = delete;
  Sql& operator=(const Sql&) = delete;
  void run(const std::string& statements);
  // Runs body between BEGIN IMMEDIATE and COMMIT; rolls back when it throws.
  void transaction(const std::function<void()>& body);
  [[noreturn]] void fail(const std::string& doing) const;
  const fs::path& path() const { return path_; }
  sqlite3* handle() const { return db_; }

 private:
  fs::path path_;
  sqlite3* db_ = nullptr;
};

// One prepared statement: bind in order, then step.
class Query {
 public:
  Query(const Sql& sql, std::string_view text);
  ~Query();
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
  Query& bind(std::string_view text);
  Query& bind(int64_t number);
  bool step();  // true: a row is there
  std::string text(int column) const;
  int64_t integer(int column) const;

 private:
  const Sql& sql_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

}  // namespace fettle
