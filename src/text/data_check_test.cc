// What inspect_dataset must find, and what it must leave alone.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "base/base.h"
#include "text/dataset.h"
#include "text/personal_data.h"
#include "text/row_text.h"
#include "text/similar.h"

namespace fettle {
namespace {

Example ask(const std::string& question, const std::string& answer = "x") {
  return {{{"user", question}, {"assistant", answer}}, "a.jsonl", 1};
}

Dataset dataset(std::vector<Example> examples) {
  Dataset data;
  data.examples = std::move(examples);
  for (size_t i = 0; i < data.examples.size(); i++) data.examples[i].row = int64_t(i + 1);
  return data;
}

// "0-1 2-3"
std::string listed(const std::vector<DataReport::Pair>& pairs) {
  std::string text;
  for (const auto& p : pairs) text += (text.empty() ? "" : " ") + std::to_string(p.a) + "-" + std::to_string(p.b);
  return text;
}

std::string kinds(const DataReport& report) {
  std::string text;
  for (const Problem& p : report.warnings) text += (text.empty() ? "" : " ") + p.kind + "@" + std::to_string(p.row);
  return text;
}

// One kind of personal data in a text, or "".
std::string personal(const std::string& text) {
  std::string found;
  for (const PersonalData& p : find_personal_data(text)) found += (found.empty() ? "" : " ") + p.kind;
  return found;
}

constexpr const char* kLong =
    "I ordered a travel router two weeks ago and it has still not been delivered to my flat, can you look into that please";
constexpr const char* kNearLong =
    "I ordered a travel router two weeks ago and it has still not been delivered to my house, can you look into that please?";
constexpr const char* kOther =
    "The invoice for March shows a platform fee that nobody here can explain, what is it for and who agreed to it";

TEST(Inspect, DuplicatesConflictsAndNearDuplicates) {
  Dataset data = dataset({ask("Where is it?", "status"), ask(kLong, "status"), ask(" where is IT? ", "Status"),
                          ask("Where is it?", "refund"), ask(kNearLong, "status"), ask(kOther, "billing"), ask("where is it?", "refund")});
  DataReport report = inspect_dataset(data, {}, {});
  EXPECT_EQ(listed(report.duplicates), "0-2 3-6");
  EXPECT_EQ(listed(report.conflicts), "0-3");
  EXPECT_EQ(listed(report.near_duplicates), "1-4");
  EXPECT_GT(report.near_duplicates[0].similarity, 0.8);
  EXPECT_LT(report.near_duplicates[0].similarity, 1);
  EXPECT_TRUE(report.leaks.empty());
}

TEST(Inspect, SystemMessagesMakeQuestionsDifferentButNotAlike) {
  std::string instructions(2000, 'a');
  auto with_system = [&](const std::string& system, const std::string& question, const std::string& answer) {
    return Example{{{"system", system}, {"user", question}, {"assistant", answer}}, "a.jsonl", 1};
  };
  Dataset data = dataset({with_system(instructions, kLong, "x"), with_system(instructions, kOther, "y"),
                          with_system("in French", "hello there", "bonjour"), with_system("in German", "hello there", "hallo")});
  DataReport report = inspect_dataset(data, {}, {});
  EXPECT_TRUE(report.conflicts.empty());
  EXPECT_EQ(listed(report.near_duplicates), "2-3");  // worth a look, no contradiction
}

TEST(Inspect, LeaksAreFoundOnceForEachHeldOutRow) {
  Dataset data = dataset({ask(kLong), ask(kOther), ask("How do I close my account?"), ask(kNearLong), ask("how do I close my ACCOUNT?"),
                          ask("Something quite different about domains"), ask("how do I close my account?")});
  DataReport report = inspect_dataset(data, {0, 1, 2}, {3, 4, 5, 6});
  EXPECT_EQ(listed(report.leaks), "0-3 2-4 2-6");
  EXPECT_EQ(report.leaks[1].similarity, 1);
  EXPECT_TRUE(inspect_dataset(data, {0, 1}, {5}).leaks.empty());
}

TEST(Inspect, LabelsInTwoSpellingsAndLonelyOnes) {
  std::vector<Example> examples;
  for (int i = 0; i < 40; i++) examples.push_back(ask("question " + std::to_string(i * 7919), i % 2 ? "refund_request" : "C"));
  examples.push_back(ask("another", "Refund request"));
  examples.push_back(ask("and another", "C++"));
  EXPECT_EQ(kinds(inspect_dataset(dataset(examples), {}, {})), "rare-label@42 label-spelling@41");
  for (int i = 0; i < 20; i++) examples.push_back(ask("free " + std::to_string(i), "answer " + std::to_string(i)));  // no labels any more
  EXPECT_EQ(kinds(inspect_dataset(dataset(examples), {}, {})), "");
}

TEST(Inspect, PersonalDataIsNamedOncePerRowAndMasked) {
  Dataset data =
      dataset({ask("write to jane.doe@mail-server.net or j@mail-server.net", "ok"), ask("nothing here", "call +44 20 7946 0958")});
  DataReport report = inspect_dataset(data, {}, {});
  EXPECT_EQ(kinds(report), "pii-email@1 pii-phone@2");
  EXPECT_FALSE(report.warnings[0].fatal);
  EXPECT_EQ(report.warnings[0].message.find("jane.doe"), std::string::npos);
  EXPECT_NE(report.warnings[0].message.find("j...@mail-server.net"), std::string::npos) << report.warnings[0].message;
  EXPECT_NE(report.warnings[1].message.find("message 2 (assistant)"), std::string::npos);
}

TEST(Inspect, WarningsAreCountedBeyondAThousand) {
  Dataset data;
  for (int i = 0; i < 1500; i++)
    data.examples.push_back(ask("mail n" + std::to_string(i) + "@firm.org", "long answer number " + std::to_string(i)));
  DataReport report = inspect_dataset(data, {}, {});
  ASSERT_EQ(report.warnings.size(), 1001u);
  EXPECT_EQ(report.warnings.back().message.substr(0, 8), "500 more");
}

TEST(PersonalDataScan, Finds) {
  EXPECT_EQ(personal("mail me: Jane_Doe+x@firm.co.uk."), "email");
  for (const char* phone :
       {"+49 151 2345678", "(555) 234-5678", "555-234-5678", "020 7946 0958", "0151/2345678", "tel.: 0044 20 7946 0958", "+15552345678"})
    EXPECT_EQ(personal(phone), "phone") << phone;
  for (const char* card : {"4111 1111 1111 1111", "card 5555-5555-5555-4444, 12/26", "378282246310005", "4111 1111 1111 1111 12/29 123"})
    EXPECT_EQ(personal(card), "card") << card;
  EXPECT_EQ(personal("to GB82 WEST 1234 5698 7654 32 please"), "iban");
  EXPECT_EQ(personal("DE89370400440532013000"), "iban");
  EXPECT_EQ(personal("token sk-abcdefghij0123456789ABCD"), "key");
  EXPECT_EQ(personal("-----BEGIN RSA PRIVATE KEY-----"), "key");
  EXPECT_EQ(personal("id AKIAIOSFODNN7EXAMPLE1"), "key");
}

TEST(PersonalDataScan, LeavesAlone) {
  for (const char* text : {"support@shop.example",
                           "x@example.com",
                           "@handle and a@b",
                           "order 48213, invoice 2024-0117",
                           "12.05.2024 14:30",
                           "2024-05-12 2024-05-13",
                           "05-12-2024",
                           "1000000000",
                           "4111 1111 1111 1112",
                           "version 1.2.3.4",
                           "pi is 3.14159265358979",
                           "2 + 3 = 5",
                           "0.123456789",
                           "0 1 2 3 4 5 6 7 8 9",
                           "DE00370400440532013000",
                           "sk-learn-is-a-library-of-python-code",
                           "AKIA",
                           "5000000000 / 200 = 25000000",
                           "room 021 12",
                           "$1,234,567.00"})
    EXPECT_EQ(personal(text), "") << text;
}

// No clock: a scan that costs the square of a text's length would not come back from 4 MB.
TEST(PersonalDataScan, HostileTextsCostLinearTime) {
  for (const char* unit : {"@", "a@", "0", "0 ", "+1", "(0", "GB82 ", "A", "sk-", "sk-1", "eyJhbGciOi", "-----BEGIN "}) {
    std::string text;
    while (text.size() < 4u << 20) text += unit;
    EXPECT_LE(find_personal_data(text).size(), 2u) << unit;
  }
}

TEST(PersonalDataScan, KeysBehindWhatOnlyBeginsLikeOne) {
  EXPECT_EQ(personal("sk-sk-sk-word sk-abcdefgh12345678ijklmnop"), "key");
  EXPECT_EQ(personal("task-force risk-free sk-short1"), "");
}

TEST(RowText, FoldsCaseBlanksAndForms) {
  EXPECT_EQ(folded("  Wo\t IST\n\n das?\xc2\xa0"), "wo ist das?");
  EXPECT_EQ(folded("STRASSE caf\x65\xcc\x81"), folded("Stra\xc3\x9f\x65 CAF\xc3\x89"));
  EXPECT_EQ(words_of(folded("Where's my order_No. 5?!")), "where s my order no 5");
  EXPECT_EQ(words_of("?!"), "?!");
  EXPECT_NO_THROW(folded("broken \xff\xc3"));
}

double jaccard(const std::string& a, const std::string& b) {
  auto shingles = [](const std::string& text) {
    std::set<std::string> set;
    for (size_t i = 0; i + 5 <= text.size(); i++) set.insert(text.substr(i, 5));
    return set;
  };
  auto p = shingles(a), q = shingles(b);
  size_t both = 0;
  for (const auto& s : p) both += q.contains(s);
  return double(both) / double(p.size() + q.size() - both);
}

TEST(Similar, EqualsTheJaccardIndexOfShortTextsAndEstimatesThatOfLongOnes) {
  Random random(5);
  for (int length : {20, 60, 120, 4000}) {
    std::string a, b;
    for (int i = 0; i < length; i++) a += char('a' + random.below(26));
    b = a;
    for (int i = 0; i < length / 60 + 1; i++) b[random.below(uint32_t(length))] = '-';
    Sketches sketches;
    sketches.add(a);
    sketches.add(b);
    EXPECT_NEAR(sketches.similarity(0, 1), jaccard(a, b), length > 200 ? 0.1 : 1e-9) << length;
    EXPECT_EQ(sketches.similarity(1, 1), 1);
  }
}

// Every pair that comparing all with all finds, found by bands as well.
TEST(Similar, MissesNothingAmongManyTexts) {
  Random random(9);
  std::vector<std::string> texts;
  Sketches sketches;
  for (int i = 0; i < 600; i++) {
    std::string text;
    if (i % 3 == 2) {
      text = texts[random.below(uint32_t(i))];
      for (int edit = 0; edit < 2; edit++) text[random.below(uint32_t(text.size()))] = '-';
    } else {
      for (int c = 0; c < 80; c++) text += char('a' + random.below(26));
    }
    texts.push_back(text);
    sketches.add(text);
  }
  std::set<size_t> expected, found;
  for (size_t b = 0; b < texts.size(); b++)
    for (size_t a = 0; a < b; a++)
      if (sketches.similarity(a, b) >= 0.8) expected.insert(b);
  for (const SimilarPair& pair : similar_pairs(sketches, 0.8)) {
    EXPECT_LT(pair.a, pair.b);
    EXPECT_EQ(pair.similarity, sketches.similarity(pair.a, pair.b));
    found.insert(pair.b);
  }
  EXPECT_GT(expected.size(), 50u);
  EXPECT_EQ(found, expected);
}

TEST(SharedData, TheSameLeaksInBanking77AsByComparingAllPairs) {
  fs::path folder = fs::path(FETTLE_SOURCE_DIR) / "../shared/data/banking77";
  if (!fs::exists(folder)) GTEST_SKIP() << "no shared data sets beside the checkout";
  Dataset data = read_dataset((folder / "train.csv").string()), test = read_dataset((folder / "test.csv").string());
  std::vector<size_t> train, held_out;
  for (size_t i = 0; i < data.examples.size(); i++) train.push_back(i);
  for (Example& example : test.examples) {
    held_out.push_back(data.examples.size());
    data.examples.push_back(std::move(example));
  }
  DataReport report = inspect_dataset(data, train, held_out);
  EXPECT_NEAR(double(report.leaks.size()), 151, 1);
  EXPECT_TRUE(report.warnings.empty()) << kinds(report);
}

TEST(ExampleData, IsCleanAndDoesNotLeak) {
  fs::path folder = fs::path(FETTLE_SOURCE_DIR) / "examples";
  Dataset data = read_dataset((folder / "tickets.jsonl").string()), test = read_dataset((folder / "tickets-heldout.jsonl").string());
  std::vector<size_t> train, held_out;
  for (size_t i = 0; i < data.examples.size(); i++) train.push_back(i);
  EXPECT_GT(train.size(), 700u);
  for (Example& example : test.examples) {
    held_out.push_back(data.examples.size());
    data.examples.push_back(std::move(example));
  }
  EXPECT_TRUE(data.problems.empty() && test.problems.empty());
  DataReport report = inspect_dataset(data, train, held_out);
  EXPECT_EQ(listed(report.duplicates) + listed(report.near_duplicates) + listed(report.conflicts) + listed(report.leaks) + kinds(report),
            "");
}

}  // namespace
}  // namespace fettle
