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

class Sql {
 public:
  explicit Sql(const fs::path& path);  // opens or makes it; waits for other processes up to half a minute
  ~Sql();
  Sql(const Sql&) = delete;
  Sql& operator=(const Sql&) = delete;
  void run(const std::string& statements);
  // Runs body between BEGIN IMMEDIATE and COMMIT; rolls back when it throws.
  void transaction(const std::function<void()>& body);
  [[noreturn]] void fail(const std::string& doing) const;
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
