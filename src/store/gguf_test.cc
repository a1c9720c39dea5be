// GGUF: what is read back, and every way a file can lie. The bytes are put together here, not by the program's own writer.
#include "store/gguf.h"

#include <gtest/gtest.h>

#include <fstream>

#include "format/format.h"
#include "store/store.h"
#include "store/test_folder.h"

namespace fettle {
namespace {

template <class T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
std::string u32(uint32_t value) { return raw(value); }
std::string u64(uint64_t value) { return raw(value); }
std::string text(const std::string& s) { return u64(s.size()) + s; }

constexpr uint32_t kU8 = 0, kU32 = 4, kF32 = 6, kString = 8, kArray = 9, kU64 = 10;

std::string value(const std::string& key, uint32_t type, const std::string& bytes) { return text(key) + u32(type) + bytes; }
std::string number(const std::string& key, uint32_t n) { return value(key, kU32, u32(n)); }

std::string row(const std::string& name, const std::vector<uint64_t>& shape, uint32_t type, uint64_t offset) {
  std::string out = text(name) + u32(uint32_t(shape.size()));
  for (uint64_t d : shape) out += u64(d);
  return out + u32(type) + u64(offset);
}

// A file of these values and rows of the tensor table, and so many bytes of data.
std::string file_of(const std::vector<std::string>& values, const std::vector<std::string>& rows, size_t data, size_t alignment = 32) {
  std::string out = "GGUF" + u32(3) + u64(rows.size()) + u64(values.size());
  for (const std::string& v : values) out += v;
  for (const std::string& r : rows) out += r;
  return out + std::string((alignment - out.size() % alignment) % alignment, '\0') + std::string(data, '\1');
}

class GgufFile : public testing::Test {
 protected:
  TestFolder folder;
  const fs::path path = folder / "x.gguf";

  // What opening it, and reading all its metadata, says.
  std::string refusal(const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
    return error_of([&] { (void)Gguf(path).metadata(); });
  }
  void expect(const std::string& part, const std::string& bytes) {
    const std::string said = refusal(bytes);
    EXPECT_NE(said.find(part), std::string::npos) << said << "\nexpected: " << part;
    EXPECT_NE(said.find("x.gguf: byte "), std::string::npos) << said;
  }
  void expect_values(const std::string& part, const std::vector<std::string>& values) { expect(part, file_of(values, {}, 0)); }
  void expect_rows(const std::string& part, const std::vector<std::string>& rows, size_t data = 64) {
    expect(part, file_of({}, rows, data));
  }
};

TEST_F(GgufFile, IsReadAsItLies) {
  const std::string numbers = u32(kF32) + u64(2) + raw(1.5f) + raw(-2.0f), words = u32(kString) + u64(2) + text("a") + text("");
  EXPECT_EQ(refusal(file_of({value("s", kString, text("ü")), value("n", kU64, u64(1) /* little endian */), value("a", kArray, numbers),
                             value("w", kArray, words), number("general.alignment", 64)},
                            {row("t", {2, 3}, 0, 0), row("u", {32}, 8, 64)}, 64 + 34, 64)),
            "");
  const Gguf file(path);
  EXPECT_EQ(file.string("s"), "ü");
  EXPECT_EQ(file.integer("n"), 1);
  EXPECT_EQ(file.numbers("a"), (std::vector<double>{1.5, -2}));
  EXPECT_EQ(file.strings("w"), (std::vector<std::string>{"a", ""}));
  EXPECT_EQ(file.tensor("t").shape, (Shape{3, 2}));
  EXPECT_EQ(file.tensor("u").format, find_format("Q8_0"));
  EXPECT_EQ(file.tensor("u").bytes.size(), 34u);
  EXPECT_EQ(error_of([&] { (void)file.tensor("v"); }), path.string() + ": tensor \"v\" is missing");
}

TEST_F(GgufFile, RefusesWhatIsNoFileOfTheKind) {
  expect("the file is empty", "");
  expect("the file has 4 bytes", "GGUF");
  expect("the file has 23 bytes", file_of({}, {}, 0).substr(0, 23));
  expect("not a GGUF file", "GGML" + std::string(60, '\0'));
  expect("big-endian", "GGUF" + std::string("\0\0\0\3", 4) + std::string(60, '\0'));
  for (const uint32_t version : {0u, 1u, 4u, 0xFFFFFFFFu}) expect("GGUF version", "GGUF" + u32(version) + std::string(60, '\0'));
  EXPECT_NE(error_of([&] { Gguf(folder / "absent"); }).find("no such file"), std::string::npos);
  fs::create_symlink(folder / "loop", folder / "loop");
  EXPECT_NE(error_of([&] { Gguf(folder / "loop"); }), "");
  EXPECT_NE(error_of([&] { Gguf(folder.path()); }), "");
}

TEST_F(GgufFile, RefusesCountsThatLie) {
  for (const uint64_t n : {uint64_t(2), uint64_t(1) << 60, UINT64_MAX}) {
    expect("metadata values but has only", "GGUF" + u32(3) + u64(0) + u64(n));
    expect("tensors but has only", "GGUF" + u32(3) + u64(n) + u64(0));
    expect("elements; ", file_of({value("a", kArray, u32(kU8) + u64(n * 1000))}, {}, 0));
    expect("elements; ", file_of({value("a", kArray, u32(kString) + u64(n * 1000))}, {}, 0));
  }
  for (const uint64_t n : {uint64_t(1) << 20, uint64_t(1) << 63, UINT64_MAX}) {
    expect("a metadata key claims", file_of({u64(n) + "key" + std::string(40, 'x')}, {}, 0));
    expect("a metadata string claims", file_of({value("key", kString, u64(n) + "text")}, {}, 0));
    expect("a string of an array claims", file_of({value("key", kArray, u32(kString) + u64(1) + u64(n) + "text")}, {}, 0));
    expect("a tensor's name claims", file_of({}, {u64(n) + "name" + std::string(40, 'x')}, 0));
  }
}

TEST_F(GgufFile, RefusesMetadataThatLies) {
  expect_values("appears twice", {number("a", 1), number("a", 2)});
  expect_values("a metadata key is empty", {number("", 1)});
  expect_values("not proper text", {number(std::string("a\0b", 3), 1)});
  expect_values("not proper text", {number("\xFF", 1)});
  expect_values("unknown type 13", {value("a", 13, u64(1))});
  expect_values("an array of arrays", {value("a", kArray, u32(kArray) + u64(1) + u32(kU8) + u64(0))});
  expect_values("elements of unknown type 99", {value("a", kArray, u32(99) + u64(1))});
  expect("the file ends inside", file_of({number("abc", 1)}, {}, 0).substr(0, 24 + 8 + 3 + 3));
  for (const uint32_t alignment : {0u, 1u, 13u, 1u << 31}) {
    expect_values("general.alignment is " + std::to_string(alignment), {number("general.alignment", alignment)});
  }
  expect_values("general.alignment is of type u64", {value("general.alignment", kU64, u64(32))});
  EXPECT_EQ(refusal(file_of({value("a", kU64, u64(UINT64_MAX)), value("f", kF32, raw(NAN)), number("n", 1)}, {}, 0)), "");
  const Gguf file(path);
  EXPECT_NE(error_of([&] { (void)file.integer("a"); }).find("too large"), std::string::npos);
  EXPECT_NE(error_of([&] { (void)file.real("f"); }).find("not a finite number"), std::string::npos);
  EXPECT_NE(error_of([&] { (void)file.string("n"); }).find("not a string"), std::string::npos);
  EXPECT_NE(error_of([&] { (void)file.strings("n"); }).find("not an array of strings"), std::string::npos);
  EXPECT_NE(error_of([&] { (void)file.boolean("n"); }).find("not true or false"), std::string::npos);
}

TEST_F(GgufFile, RefusesTensorsThatLie) {
  const uint64_t half = uint64_t(1) << 32;
  expect_rows("0 dimensions", {row("a", {}, 0, 0)});
  expect_rows("5 dimensions", {row("a", {1, 1, 1, 1, 1}, 0, 0)});
  expect_rows("4294967295 dimensions", {text("a") + u32(UINT32_MAX) + std::string(40, '\1')});
  expect_rows("a dimension of 0", {row("a", {2, 0}, 0, 0)});
  expect_rows("a dimension of -1", {row("a", {UINT64_MAX}, 0, 0)});
  expect_rows("more elements than can be counted", {row("a", {half, half}, 0, 0)});
  expect_rows("larger than any file", {row("a", {uint64_t(1) << 62}, 0, 0)});
  expect_rows("reaches beyond the end", {row("a", {(uint64_t(1) << 60) + 2}, 0, 0)});  // times 4, then rounded up
  expect_rows("a multiple of Q8_0's block of 32", {row("a", {33}, 8, 0)});
  for (const uint32_t type : {4u, 5u, 31u, 1000u, UINT32_MAX}) expect_rows("which fettle does not know", {row("a", {32}, type, 0)});
  expect_rows("appears twice", {row("a", {8}, 0, 0), row("a", {8}, 0, 32)});
  expect_rows("a tensor's name is empty", {row("", {8}, 0, 0)});
  expect_rows("not proper text", {row("\xFF", {8}, 0, 0)});
  expect_rows("a tensor's name claims 64 bytes", {row(std::string(64, 'x'), {8}, 0, 0)});
  expect_rows("not a multiple of 32", {row("a", {8}, 0, 1)});
  expect_rows("reaches beyond the end", {row("a", {17}, 0, 0)});
  for (const uint64_t offset : {uint64_t(64), UINT64_MAX - 31, uint64_t(1) << 63}) {
    expect_rows("reaches beyond the end", {row("a", {8}, 0, offset)});  // offsets count from the end of the header: before it nothing lies
  }
  expect_rows("overlapping the tensor before it", {row("a", {16}, 0, 0), row("b", {8}, 0, 32)}, 128);
  expect_rows("leaving a gap before it", {row("a", {8}, 0, 0), row("b", {8}, 0, 64)}, 128);
  expect("ends before its tensor data begins", file_of({}, {row("a", {8}, 0, 0)}, 0).substr(0, 24 + 33));
}

// A terabyte of nothing costs neither memory nor time.
TEST_F(GgufFile, HugeSparseFilesAreOpenedAtOnce) {
  refusal(file_of({}, {row("a", {uint64_t(1) << 38}, 0, 0)}, 0));
  std::error_code error;
  fs::resize_file(path, (uint64_t(1) << 40) + 64, error);
  if (error) GTEST_SKIP() << "the file system has no such files";
  EXPECT_EQ(Gguf(path).tensor("a").bytes.size(), uint64_t(1) << 40);
}

TEST_F(GgufFile, SetsAreWhole) {
  const auto part = [&](const std::string& name, const std::vector<std::string>& values, const std::string& tensor) {
    std::ofstream(folder / name, std::ios::binary) << file_of(values, {row(tensor, {8}, 0, 0)}, 32);
  };
  const auto says = [](uint32_t no, uint32_t count) {
    return std::vector<std::string>{number("split.no", no), number("split.count", count)};
  };
  const auto opened = [&](const char* name) { return error_of([&] { Gguf(folder / name); }); };
  part("m-00001-of-00002.gguf", says(0, 2), "a");
  EXPECT_NE(opened("m-00001-of-00002.gguf").find("m-00002-of-00002.gguf: this part of a set of 2 is missing"), std::string::npos);
  part("m-00002-of-00002.gguf", says(1, 2), "b");
  for (const char* name : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
    const Gguf set(folder / name);
    EXPECT_EQ(set.tensors().size(), 2u);
    EXPECT_EQ(set.paths().size(), 2u);
  }
  part("m-00002-of-00002.gguf", says(1, 2), "a");
  EXPECT_NE(opened("m-00001-of-00002.gguf").find("appears twice"), std::string::npos);
  part("m-00002-of-00002.gguf", says(0, 2), "b");
  EXPECT_NE(opened("m-00001-of-00002.gguf").find("is not part 2 of this set"), std::string::npos);
  part("m-00002-of-00002.gguf", says(1, 3), "b");
  EXPECT_NE(opened("m-00001-of-00002.gguf").find("is not part 2 of this set"), std::string::npos);
  part("m-00002-of-00002.gguf", says(1, 2), "b");
  std::vector<std::string> values = says(0, 2);
  values.push_back(number("split.tensors.count", 3));
  part("m-00001-of-00002.gguf", values, "a");
  EXPECT_NE(opened("m-00001-of-00002.gguf").find("should have 3 tensors but has 2"), std::string::npos);
  part("other.gguf", says(0, 2), "a");
  EXPECT_NE(opened("other.gguf").find("name the parts NAME-00001-of-00002.gguf"), std::string::npos);
  for (const auto& [no, count] : {std::pair(5u, 2u), {0u, 0u}, {0u, UINT32_MAX}}) {
    part("m-00001-of-00002.gguf", says(no, count), "a");
    EXPECT_NE(opened("m-00001-of-00002.gguf").find("makes no sense"), std::string::npos) << no << " of " << count;
  }
}

}  // namespace
}  // namespace fettle
