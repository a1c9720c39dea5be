// Feed-forwards made of experts, for the architectures that have them. Private to the room.
#pragma once
#include "model/decoder.h"

namespace fettle {

// What is special about a model's experts.
struct ExpertStyle {
  Routing routing;
  int width = 0;         // of an expert
  int shared_width = 0;  // of the one that sees every row, 0: there is none
};

// As the file says it, under "ARCH.expert_*"; `usual`: how the architecture routes where the file is silent. Notes in the configuration how
// many experts there are. Error{refused}: impossible numbers.
ExpertStyle read_experts(Model& model, const Routing& usual);

// Gives every block of a decoder experts as the file describes them; some_dense: a block without a router whose gate is a single matrix has
// none.
void use_experts(DecoderStyle& style, Model& model, const Routing& usual, bool some_dense = false);

// A block's feed-forward: router and experts, stacked (ffn_gate_exps) or each by itself (ffn_gate.0), and the shared one with its gate.
std::unique_ptr<FeedForward> make_experts(Model& model, const std::string& block, const ExpertStyle& style);

// How many experts there are and are used, between config.json and GGUF; `count`: what the family calls the former, where it is written.
void put_experts(const nlohmann::json& config, const char* architecture, GgufWriter& out);
bool get_experts(const Gguf& file, const char* architecture, const char* count, nlohmann::json& config);  // false: the file has none
// Notes the blocks without experts, if there are any, as Qwen's config.json does. (The way in needs no key: the tensors say it.)
void get_dense_blocks(const Gguf& file, const char* architecture, nlohmann::json& config);

// Names of tensors as Mixtral and PhiMoE, or Qwen and OLMoE have them.
inline constexpr HfName kMixtralNames[] = {
    {"blk.{}.ffn_gate_inp", "model.layers.{}.block_sparse_moe.gate"},
    {"blk.{}.ffn_gate.{}", "model.layers.{}.block_sparse_moe.experts.{}.w1"},
    {"blk.{}.ffn_down.{}", "model.layers.{}.block_sparse_moe.experts.{}.w2"},
    {"blk.{}.ffn_up.{}", "model.layers.{}.block_sparse_moe.experts.{}.w3"},
};
inline constexpr HfName kExpertNames[] = {
    {"blk.{}.ffn_gate_inp", "model.layers.{}.mlp.gate"},
    {"blk.{}.ffn_gate.{}", "model.layers.{}.mlp.experts.{}.gate_proj"},
    {"blk.{}.ffn_up.{}", "model.layers.{}.mlp.experts.{}.up_proj"},
    {"blk.{}.ffn_down.{}", "model.layers.{}.mlp.experts.{}.down_proj"},
    {"blk.{}.ffn_gate_inp_shexp", "model.layers.{}.mlp.shared_expert_gate"},
    {"blk.{}.ffn_gate_shexp", "model.layers.{}.mlp.shared_expert.gate_proj"},
    {"blk.{}.ffn_up_shexp", "model.layers.{}.mlp.shared_expert.up_proj"},
    {"blk.{}.ffn_down_shexp", "model.layers.{}.mlp.shared_expert.down_proj"},
};

}  // namespace fettle
