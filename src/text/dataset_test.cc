// Reading data sets: every shape gives the same conversations, every broken row is named, and none of the files that people should not have
// made costs more than a sentence.
#include "text/dataset.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "base/base.h"

namespace fettle {
namespace {

struct Reading : testing::Test {
  fs::path at;
  void SetUp() override {
    std::string name = testing::TempDir() + "fettle-data-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    at = name;
  }
  void TearDown() override { fs::remove_all(at); }
  Dataset read(const std::string& name, std::string_view bytes) {
    write_text(at / name, bytes);
    return read_dataset((at / name).string());
  }
  // The error that reading `source` throws.
  static std::optional<Error> error_of(const std::string& source) {
    try {
      read_dataset(source);
    } catch (const Error& error) {
      return error;
    }
    return {};
  }
  std::optional<Error> refusal(const std::string& name, std::string_view bytes) {
    write_text(at / name, bytes);
    return error_of((at / name).string());
  }
};

// "user: question | assistant: answer"
std::string told(const Example& example) {
  std::string text;
  for (const Message& m : example.messages)
    text += (text.empty() ? "" : " | ") + m.role + ": " + m.content + (m.train ? "" : " (untrained)");
  return text;
}

// "kind@row", fatal ones first in the order found
std::string kinds(const Dataset& data, bool fatal = true) {
  std::string text;
  for (const Problem& p : data.problems)
    if (p.fatal == fatal) text += (text.empty() ? "" : " ") + p.kind + "@" + std::to_string(p.row);
  return text;
}

std::string chat(const std::string& question, const std::string& answer) {
  return R"({"messages":[{"role":"user","content":")" + question + R"("},{"role":"assistant","content":")" + answer + "\"}]}\n";
}

TEST_F(Reading, ShapesOfJson) {
  struct Case {
    const char *shape, *row, *told;
  };
  const Case cases[] = {
      {"openai",
       R"({"messages":[{"role":"developer","content":"be brief"},{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":"yo","weight":1}]})",
       "system: be brief | user: hi | assistant: yo"},
      {"openai",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0},{"role":"user","content":"c"},{"role":"assistant","content":"d"}]})",
       "user: a | assistant: b (untrained) | user: c | assistant: d"},
      {"sharegpt", R"({"id":"x","system":"s","conversations":[{"from":"human","value":"hi"},{"from":"gpt","value":"yo"}]})",
       "system: s | user: hi | assistant: yo"},
      {"alpaca", R"({"instruction":"translate","input":"cat","output":"Katze"})", "user: translate\n\ncat | assistant: Katze"},
      {"alpaca", R"({"instruction":"more","output":"d","history":[["a","b"]]})", "user: a | assistant: b | user: more | assistant: d"},
      {"prompt-completion", R"({"prompt":"2+2=","completion":" 4\n"})", "user: 2+2= | assistant: 4"},
      {"prompt-completion", R"({"question":"why?","answer":"because"})", "user: why? | assistant: because"},
      {"prompt-completion", R"({"text":"where is it","label":3})", "user: where is it | assistant: 3"},
  };
  for (const Case& c : cases) {
    Dataset data = read("a.jsonl", std::string(c.row) + "\n");
    ASSERT_EQ(data.examples.size(), 1u) << c.row << kinds(data);
    EXPECT_EQ(data.shape, c.shape);
    EXPECT_EQ(told(data.examples[0]), c.told);
    EXPECT_EQ(data.examples[0].row, 1);
  }
}

TEST_F(Reading, JsonArrayLinesAndPrintedObjectsAgree) {
  std::string a = chat("one, [two]", "x"), b = chat("three \\\"four\\\"", "y");
  Dataset lines = read("a.jsonl", a + "\n" + b), array = read("b.json", "[\n" + a + ",\n" + b + "]\n"),
          printed = read("c.json", "{\n" + a.substr(1) + "\n{\n" + b.substr(1));
  for (const Dataset* data : {&lines, &array, &printed}) {
    ASSERT_EQ(data->examples.size(), 2u) << kinds(*data);
    EXPECT_EQ(told(data->examples[0]), "user: one, [two] | assistant: x");
    EXPECT_EQ(told(data->examples[1]), "user: three \"four\" | assistant: y");
  }
  EXPECT_EQ(lines.examples[1].row, 3);  // the line, a blank one counted
  EXPECT_EQ(array.examples[1].row, 2);  // the element
}

TEST_F(Reading, ByteOrderMarkCarriageReturnsAndMissingLastNewline) {
  std::string row = chat("hi", "yo");
  row.pop_back();
  Dataset data = read("a.jsonl", "\xef\xbb\xbf" + row + "\r\n\r\n" + row);
  EXPECT_EQ(data.examples.size(), 2u);
  EXPECT_EQ(data.rows, 2);
  EXPECT_TRUE(data.problems.empty()) << kinds(data);
}

TEST_F(Reading, CsvAsSpreadsheetsWriteIt) {
  Dataset comma = read("a.csv", "\xef\xbb\xbftext,intent\r\n\"two\nlines, \"\"quoted\"\"\",refund\r\nplain, other \r\n");
  ASSERT_EQ(comma.examples.size(), 2u) << kinds(comma);
  EXPECT_EQ(told(comma.examples[0]), "user: two\nlines, \"quoted\" | assistant: refund");
  EXPECT_EQ(told(comma.examples[1]), "user: plain | assistant: other");
  EXPECT_EQ(comma.examples[1].row, 4);  // a line, not a record
  EXPECT_EQ(comma.shape, "csv");
  EXPECT_EQ(told(read("b.csv", "Label;Message\nx;a, b\n").examples.at(0)), "user: a, b | assistant: x");
  EXPECT_EQ(told(read("c.tsv", "text\tlabel\na \"b\"\tx\n").examples.at(0)), "user: a \"b\" | assistant: x");
}

TEST_F(Reading, CsvColumnsByName) {
  write_text(at / "a.csv", "id,von,nach,rolle\n1,hallo,gruss,sei kurz\n");
  std::string file = (at / "a.csv").string();
  EXPECT_EQ(told(read_dataset(file + ":text=von,label=nach,system=rolle").examples.at(0)),
            "system: sei kurz | user: hallo | assistant: gruss");
  auto unnamed = error_of(file);
  ASSERT_TRUE(unnamed);
  EXPECT_EQ(unnamed->code, Exit::refused);
  EXPECT_NE(std::string(unnamed->what()).find("id, von, nach, rolle"), std::string::npos);
  EXPECT_NE(unnamed->hint.find(":text=COLUMN,label=COLUMN"), std::string::npos);
  EXPECT_EQ(error_of(file + ":text=wer,label=nach")->code, Exit::refused);
  EXPECT_EQ(error_of(file + ":texte=von")->code, Exit::usage);
}

TEST_F(Reading, EachBrokenRowIsNamedAndTheOthersAreKept) {
  struct Case {
    const char *kind, *row;
  };
  const Case cases[] = {
      {"json", R"({"messages": [}])"},
      {"json", R"({"messages": 1e999})"},
      {"surrogate", R"({"prompt":"\ud800 x","completion":"y"})"},
      {"utf8", "{\"prompt\":\"\xff\",\"completion\":\"y\"}"},
      {"nul", R"({"prompt":"a\u0000b","completion":"y"})"},
      {"shape", R"([1,2])"},
      {"shape", R"({"foo":1})"},
      {"role", R"({"messages":[{"role":"wizard","content":"x"},{"role":"assistant","content":"y"}]})"},
      {"role", R"({"messages":[{"content":"x"}]})"},
      {"role-order", R"({"messages":[{"role":"assistant","content":"y"}]})"},
      {"role-order", R"({"messages":[{"role":"user","content":"x"},{"role":"system","content":"s"},{"role":"assistant","content":"y"}]})"},
      {"no-assistant", R"({"messages":[{"role":"user","content":"x"}]})"},
      {"no-assistant", R"({"prompt":"x"})"},
      {"only-system", R"({"messages":[{"role":"system","content":"x"}]})"},
      {"empty", R"({"messages":[]})"},
      {"empty-question", R"({"prompt":" ","completion":"y"})"},
      {"empty-answer", R"({"prompt":"x","completion":"\n "})"},
      {"empty-answer", R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":null}]})"},
      {"no-trained-turn", R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","weight":0}]})"},
      {"content", R"({"messages":{"role":"user"}})"},
      {"content", R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]},{"role":"assistant","content":"y"}]})"},
      {"tool-calls", R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"","tool_calls":[{"id":"1"}]}]})"},
      {"weight", R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","weight":"no"}]})"},
  };
  for (const Case& c : cases) {
    Dataset data = read("a.jsonl", chat("a", "b") + c.row + "\n" + chat("c", "d"));
    EXPECT_EQ(kinds(data), std::string(c.kind) + "@2") << c.row;
    EXPECT_EQ(data.examples.size(), 2u) << c.row;
    EXPECT_EQ(data.rows, 3);
  }
}

TEST_F(Reading, WarningsKeepTheRow) {
  std::string openai = chat("a", "b"), pair = R"({"prompt":"x","completion":"y"})";
  Dataset mixed = read("a.jsonl", openai + pair + "\n");
  EXPECT_EQ(mixed.examples.size(), 2u);
  EXPECT_EQ(kinds(mixed, false), "mixed-shape@2");
  Dataset trailing =
      read("b.jsonl", R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"},{"role":"user","content":"z"}]})");
  EXPECT_EQ(told(trailing.examples.at(0)), "user: x | assistant: y");
  EXPECT_EQ(kinds(trailing, false), "trailing-turns@1");
  EXPECT_NO_THROW(trailing.require_clean());
}

TEST_F(Reading, LastLineCutOff) {
  Dataset data = read("a.jsonl", chat("a", "b") + R"({"messages":[{"role":"us)");
  EXPECT_EQ(kinds(data), "truncated@2");
  EXPECT_EQ(data.examples.size(), 1u);
  Dataset array = read("a.json", "[" + chat("a", "b") + "," + R"({"messages":[{"role":"us)");
  EXPECT_EQ(kinds(array), "truncated@2");
  EXPECT_EQ(array.examples.size(), 1u);
}

TEST_F(Reading, HugeLineIsPassedOverInBoundedMemory) {
  std::string huge = R"({"prompt":")" + std::string(100u << 20, 'x') + R"(","completion":"y"})";
  write_text(at / "a.jsonl", chat("a", "b") + huge + "\n" + chat("c", "d"));
  huge = {};
  Dataset data = read_dataset((at / "a.jsonl").string());
  EXPECT_EQ(kinds(data), "too-long-line@2");
  EXPECT_EQ(data.examples.size(), 2u);
  EXPECT_NE(data.problems.at(0).message.find("104.9 MB"), std::string::npos) << data.problems[0].message;
}

TEST_F(Reading, DeepBracketsNeverReachTheParser) {
  Dataset data = read("a.jsonl", chat("a", "b") + std::string(1000000, '[') + "\n" + chat("c", "d"));
  EXPECT_EQ(kinds(data), "json@2");
  EXPECT_EQ(data.examples.size(), 2u);
  // A file that begins with a bracket is one array, whatever its name: nothing behind an element that never ends can be told apart from it.
  Dataset array = read("b.jsonl", std::string(1000000, '[') + "\n" + chat("a", "b"));
  EXPECT_EQ(kinds(array), "json@1");
  EXPECT_EQ(array.examples.size(), 0u);
  EXPECT_EQ(read("c.json", "[" + std::string(1000000, '[')).examples.size(), 0u);
}

TEST_F(Reading, MillionsOfBrokenRowsCostLittle) {
  std::string bytes;
  for (int i = 0; i < 50000; i++) bytes += "x\n";
  Dataset data = read("a.jsonl", bytes);
  EXPECT_EQ(data.rows, 50000);
  EXPECT_EQ(data.problems.size(), 10000u);
}

TEST_F(Reading, CsvQuoteBombs) {
  Dataset open = read("a.csv", "text,label\na,b\n\"never closed,x\nc,d\ne,f\n");
  EXPECT_EQ(kinds(open), "csv-quote@3");
  EXPECT_EQ(open.examples.size(), 1u);
  EXPECT_NE(open.problems[0].message.find("3 line(s)"), std::string::npos) << open.problems[0].message;
  EXPECT_NE(read("e.csv", "text,label\na,b\n\"never closed,x\nc,d").problems.at(0).message.find("2 line(s)"), std::string::npos);
  Dataset fields = read("b.csv", "text,label\na,b,c\nd\ne,f\n");
  EXPECT_EQ(kinds(fields), "csv-fields@2 csv-fields@3");
  EXPECT_EQ(fields.examples.size(), 1u);
  EXPECT_EQ(read("c.csv", "text,label\n" + std::string(1000001, '"') + "\n").examples.size(), 0u);
  EXPECT_EQ(kinds(read("d.csv", "text,label\n" + std::string(20u << 20, ',') + "\na,b\n")), "too-long-line@2");
}

TEST_F(Reading, FilesOfOtherKindsAreRefusedWithAWord) {
  struct Case {
    const char* name;
    std::string bytes;
    const char* word;
  };
  const Case cases[] = {
      {"a.jsonl", std::string("\xff\xfe{\0\"\0", 6), "UTF-16"},
      {"b.csv", std::string("t\0e\0x\0t\0", 8), "UTF-16"},
      {"c.jsonl", "PAR1\x15\x04", "Parquet"},
      {"d.csv", "PK\x03\x04\x14", "zip"},
      {"e.jsonl", "\x1f\x8b\x08", "gzip"},
      {"f.jsonl", "GGUF\x03", "GGUF"},
      {"g.csv", "t\xffxt,label\na,b\n", "UTF-8"},
  };
  for (const Case& c : cases) {
    auto error = refusal(c.name, c.bytes);
    ASSERT_TRUE(error) << c.name;
    EXPECT_EQ(error->code, Exit::refused);
    EXPECT_NE(error->place.find(c.name), std::string::npos);
    EXPECT_NE(std::string(error->what()).find(c.word), std::string::npos) << error->what();
  }
  EXPECT_TRUE(read("empty.jsonl", "").examples.empty());
  EXPECT_TRUE(read("empty.json", "[]").examples.empty());
  EXPECT_TRUE(read("empty.csv", "").examples.empty());
}

TEST_F(Reading, MissingFilesFoldersAndDevices) {
  EXPECT_EQ(error_of((at / "none.jsonl").string())->code, Exit::refused);
  EXPECT_EQ(error_of(at.string())->code, Exit::refused);  // an empty folder
  EXPECT_EQ(error_of("/dev/null")->code, Exit::refused);
  EXPECT_EQ(error_of("/dev/zero")->code, Exit::refused);
  EXPECT_EQ(error_of((at / std::string(5000, 'x')).string())->code, Exit::refused);
}

TEST_F(Reading, FolderInOrderWithoutLinksThatLeadOut) {
  fs::create_directories(at / "data/deeper");
  write_text(at / "outside.jsonl", chat("secret", "x"));
  write_text(at / "data/b.jsonl", chat("2", "x"));
  write_text(at / "data/a.csv", "text,label\n1,x\n");
  write_text(at / "data/deeper/c.json", "[" + chat("3", "x") + "]");
  write_text(at / "data/.hidden.jsonl", chat("4", "x"));
  write_text(at / "data/notes.md", "no data");
  fs::create_symlink(at / "outside.jsonl", at / "data/z.jsonl");
  fs::create_directory_symlink(at / "data", at / "data/again");
  Dataset data = read_dataset((at / "data").string());
  ASSERT_EQ(data.examples.size(), 3u);
  for (int i = 0; i < 3; i++) EXPECT_EQ(data.examples[size_t(i)].messages[0].content, std::to_string(i + 1));
  EXPECT_EQ(kinds(data, false), "link@0 mixed-shape@1 mixed-shape@1");
}

TEST_F(Reading, DigestIsOfTheBytes) {
  std::string row = chat("a", "b");
  EXPECT_EQ(read("a.jsonl", row).digest, sha256_hex(row));
  EXPECT_NE(read("b.jsonl", row + row).digest, sha256_hex(row));
}

TEST_F(Reading, RequireCleanNamesTheFirstRowAndCountsTheRest) {
  Dataset data = read("a.jsonl", chat("a", "b") + "{}\n{}\n");
  try {
    data.require_clean();
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::refused);
    EXPECT_EQ(error.place, (at / "a.jsonl").string() + ":2");
    EXPECT_NE(error.hint.find("--skip-bad (2 rows)"), std::string::npos) << error.hint;
  }
  EXPECT_NO_THROW(read("b.jsonl", chat("a", "b")).require_clean());
}

TEST(SharedData, RealFilesAreReadWhole) {
  fs::path shared = fs::path(FETTLE_SOURCE_DIR) / "../shared/data";
  if (!fs::exists(shared)) GTEST_SKIP() << "no shared data sets beside the checkout";
  struct Case {
    const char* file;
    int64_t rows;
  };
  for (Case c :
       {Case{"banking77/train.csv", 10003}, {"banking77/test.csv", 3080}, {"gsm8k/train.jsonl", 7473}, {"gsm8k/test.jsonl", 1319}}) {
    Dataset data = read_dataset((shared / c.file).string());
    EXPECT_EQ(data.rows, c.rows) << c.file;
    EXPECT_EQ(data.examples.size(), size_t(c.rows)) << c.file;
    EXPECT_TRUE(data.problems.empty()) << c.file << ": " << kinds(data);
  }
}

}  // namespace
}  // namespace fettle
