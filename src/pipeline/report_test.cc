// The report: what it says of a run. How it looks is for eyes: render one and open it in a browser at 1280, 800 and 390 pixels.
#include <gtest/gtest.h>

#include "pipeline/pipeline.h"

namespace fettle {
namespace {

Json document() {
  Json d = {{"name", "tickets"}, {"passed", true}};
  d["recipe"] = {{"started", "2026-11-24T15:04:05Z"},
                 {"options", {{"lr", 0.0}, {"alpha", 32.0}, {"pack", {0, 0}}, {"targets", Json::array()}}}};
  d["stages"] = Json::array({{{"name", "tune"}, {"seconds", 1}, {"result", {{"lr", double(2e-4f)}}}}});
  d["table"] = Json::array({{{"model", "compressed"}, {"bytes", 90000000}, {"score", 0.779}, {"low", 0.718}, {"high", 0.831}}});
  d["flipped"] = Json::array();
  return d;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

bool shows(const Json& d, const std::string& part) { return contains(render_report(d), part); }

TEST(Report, TellsTheLearningRateThatWasTrainedWith) {
  EXPECT_TRUE(shows(document(), "lr 0.0002,")) << "not the 0 that asked for it, nor the float's seventeen digits";
  Json asked = document();
  asked["recipe"]["options"]["lr"] = double(1e-3f);
  asked["stages"] = Json::array();
  EXPECT_TRUE(shows(asked, "lr 0.001, alpha 32<"));
}

TEST(Report, NumbersStayWithTheirUnits) {
  EXPECT_TRUE(shows(document(), "90.0\u00a0MB"));
  EXPECT_TRUE(shows(document(), "71.8\u00a0to 83.1\u00a0%"));
  EXPECT_TRUE(shows(document(), "2026-11-24 15:04 UTC"));
}

TEST(Report, LongLabelsMayBeBrokenAndAreEscaped) {
  Json d = document();
  d["confusion"] = {{"classes", {"billing_<question>", "ok"}}, {"counts", {{1, 2}, {0, 3}}}};
  EXPECT_TRUE(shows(d, "<tr><th>billing_<wbr>&lt;question&gt;</th>"));
  EXPECT_TRUE(shows(d, "title=\"billing_&lt;question&gt;\"")) << "heads are cut, and say all when pointed at";
  EXPECT_TRUE(shows(d, "\"pair wide-first\""));
  EXPECT_FALSE(shows(document(), "\"pair wide-first\"")) << "stages alone take the whole width";
}

TEST(Report, TablesTooWideForATelephoneAreStacked) {
  EXPECT_FALSE(shows(document(), "class=\"stack\"><thead><tr><th>model"));
  Json d = document();
  d["table"][0]["perplexity"] = 12.5;
  EXPECT_TRUE(shows(d, "class=\"stack\"><thead><tr><th>model"));
  EXPECT_TRUE(shows(d, "data-l=\"perplexity\">12.500<"));
}

TEST(Report, EscapesWhateverItIsGiven) {
  const std::string evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>";
  Json d = {{"name", evil}, {"model", evil},   {"base", evil},   {"target", evil},
            {"task", evil}, {"passed", false}, {"replay", evil}, {"rows", 3}};
  d["table"] = Json::array({{{"model", evil}, {"bytes", 1e6}, {"score", 0.5}, {"low", 0.4}, {"high", 0.6}, {"ms_per_token", 1}}});
  d["gates"] = Json::array({{{"rule", evil}, {"verdict", evil}, {"explanation", evil}}});
  d["flipped"] = Json::array({{{"text", evil}, {"expected", evil}, {"before", evil}, {"after", "\xff\xfe"}}});
  d["confusion"] = {{"classes", {evil, "b"}}, {"counts", {{1, 2}, {3, 4}}}};
  d["stages"] = Json::array({{{"name", evil}, {"seconds", 1}}});
  d["recipe"] = {{"base", {{"model", evil}, {"digest", evil}}}, {"options", {{evil, evil}}}, {"fettle", evil}};
  d["next"] = Json::array({evil});
  d["curve"] = Json::array({{{"step", 1}, {"loss", 2.0}}, {{"step", 2}, {"loss", 1.0}, {"eval_loss", 1.5}}});
  const std::string page = render_report(d);
  EXPECT_FALSE(contains(page, "<script") || contains(page, "<img") || contains(page, "alert('x')"));
  EXPECT_TRUE(contains(page, "&lt;script&gt;"));
  EXPECT_TRUE(valid_utf8(page));
}

TEST(Report, StandsWhatIsMissing) {
  for (const Json& d : {Json::object(), Json(), Json{{"table", "x"}, {"curve", 3}, {"gates", Json::object()}},
                        Json{{"curve", Json::array({{{"step", 0}, {"loss", 0}}})}}})
    EXPECT_TRUE(contains(render_report(d), "</html>"));
}

}  // namespace
}  // namespace fettle
