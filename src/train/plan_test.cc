// Which rows a step takes, and how windows are cut.
#include "train/plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "train/toy.h"

namespace fettle {
namespace {

TEST(Plan, EveryEpochSeesEveryRowOnceInAnotherOrder) {
  const std::vector<TokenRow> rows = toy_rows(10);
  TrainOptions o = toy_options();
  o.epochs = 2.5;
  Plan plan(rows, o, 259, 512);
  EXPECT_EQ(plan.steps_per_epoch(), 3);
  EXPECT_EQ(plan.steps(), 8);
  std::vector<std::vector<int64_t>> orders(2);
  for (int64_t i = 0; i < 6; i++)
    for (const TrainPiece& p : plan.step(i).pieces) orders[size_t(i / 3)].push_back(p.first_row);
  EXPECT_NE(orders[0], orders[1]);
  for (auto& order : orders) {
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < 10; i++) EXPECT_EQ(order[size_t(i)], i);
  }
  o.shuffle = "none";
  Plan plain(rows, o, 259, 512);
  EXPECT_EQ(plain.step(4).pieces[1].first_row, 5);
  EXPECT_EQ(plain.step(2).pieces.size(), 2u);
}

// ids = [a for e in rows for a in e]; range(0, len(ids) - 2 * 5, 2 * 5) windows of 2 x 5, as peers/lora_peft.py writes it.
TEST(Plan, PacksAsFrameworksDo) {
  std::vector<TokenRow> rows;
  int next = 0;
  for (int n : {7, 6, 10, 9}) {
    TokenRow row;
    row.row = int64_t(rows.size()) + 100;
    for (int i = 0; i < n; i++) row.ids.push_back(next++);
    row.labels = row.ids;
    row.labels[0] = row.labels[1] = -100;
    rows.push_back(row);
  }
  TrainOptions o = toy_options();
  o.pack_rows = 2;
  o.pack_tokens = 5;
  o.shuffle = "none";
  Plan plan(rows, o, 259, 512);
  EXPECT_EQ(plan.steps_per_epoch(), 3);  // 32 tokens: 0, 10, 20 are below 22
  const Step step = plan.step(1);
  ASSERT_EQ(step.pieces.size(), 2u);
  EXPECT_EQ(std::vector<int>(step.pieces[0].ids.begin(), step.pieces[0].ids.end()), (std::vector<int>{10, 11, 12, 13, 14}));
  EXPECT_EQ(std::vector<int>(step.pieces[1].labels.begin(), step.pieces[1].labels.end()), (std::vector<int>{15, 16, 17, 18, 19}));
  EXPECT_EQ(step.pieces[0].first_row, 101);
  EXPECT_EQ(step.pieces[0].last_row, 102);
  EXPECT_EQ(step.rows(), "101 to 102, 102");
  EXPECT_EQ(step.trained, 2 + 4);  // labels 11 12 | 16 17 18 19: a window's first token has no predecessor
  const TrainBatch b = make_batch(step.pieces);
  ASSERT_EQ(b.batch.segments.size(), 2u);
  EXPECT_EQ(b.batch.positions, (std::vector<int>{0, 1, 0, 1, 2, 3}));  // nothing behind the last labelled token
  EXPECT_EQ(b.batch.wanted, (std::vector<int>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(b.targets, (std::vector<int>{11, 12, 16, 17, 18, 19}));
  // exactly three steps' worth of tokens: the script leaves the last one out
  rows.pop_back();
  rows.back().ids.resize(7);
  rows.back().labels.resize(7);
  EXPECT_EQ(Plan(rows, o, 259, 512).steps_per_epoch(), 1);
}

// The head of a chat template stands before every row: it becomes one segment, up to the first token that predicts.
TEST(Plan, WhatAllRowsBeginWithIsOneSegment) {
  const std::vector<int> a = {1, 2, 3, 4, 5, 6, 7}, b = {1, 2, 3, 4, 5, 9, 8, 8};
  const std::vector<int> la = {-100, -100, -100, -100, -100, -100, 7}, lb = {-100, -100, -100, -100, -100, 9, 8, -100};
  const std::vector<TrainPiece> pieces = {{a, la, 0, 0}, {b, lb, 1, 1}};
  const TrainBatch t = make_batch(pieces);
  ASSERT_EQ(t.batch.segments.size(), 3u);
  EXPECT_EQ(t.batch.tokens, (std::vector<int>{1, 2, 3, 4, 5, 6, 5, 9}));  // row b predicts 9 from its 5, which therefore is its own
  EXPECT_EQ(t.batch.positions, (std::vector<int>{0, 1, 2, 3, 4, 5, 4, 5}));
  EXPECT_EQ(t.batch.wanted, (std::vector<int>{5, 6, 7}));
  EXPECT_EQ(t.targets, (std::vector<int>{7, 9, 8}));
  for (size_t i = 1; i < 3; i++) EXPECT_EQ(t.batch.segments[i].prefix, 0);
  EXPECT_EQ(make_batch(std::span(pieces).first(1)).batch.segments.size(), 1u);
}

TEST(Plan, LongRowsAreCutAndRowsWithoutTrainedTokensLeftOut) {
  std::vector<TokenRow> rows = toy_rows(3);
  TrainOptions o = toy_options();
  rows[1].ids.insert(rows[1].ids.begin(), 40, 20);
  rows[1].labels.insert(rows[1].labels.begin(), 40, -100);
  o.max_tokens = 20;
  Plan plan(rows, o, 259, 512);
  EXPECT_EQ(plan.truncated_rows(), 1);
  EXPECT_EQ(plan.skipped_rows(), 1);
  EXPECT_EQ(plan.step(0).pieces.size(), 2u);
  for (TokenRow& row : rows) std::fill(row.labels.begin(), row.labels.end(), -100);
  EXPECT_THROW(Plan(rows, o, 259, 512), Error);
  rows[0].ids[0] = 259;
  EXPECT_THROW(Plan(rows, o, 259, 512), Error);
}

}  // namespace
}  // namespace fettle
