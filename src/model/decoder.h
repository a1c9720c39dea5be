// The one decoder that all architectures are built from: pre-norm blocks of attention and feed-forward on a residual stream. An
// architecture's file says what is special about it (DecoderStyle), and nothing else. Private to the room.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"

namespace fettle {

constexpr int kMaxContext = 1 << 26;  // more positions than any model has

// What follows attention in a block.
class FeedForward {
 public:
  virtual ~FeedForward() = default;
  virtual Var* forward(Run& run, Var* x) = 0;  // (rows, d_model) -> (rows, d_model), neither normed nor added yet
  virtual std::vector<Linear*> linears() = 0;  // in file order
};

// What the layers of one model may differ in.
struct DecoderLayer {
  bool rotated = true;  // whether queries and keys know positions at all
  bool scaled = true;   // whether rotations are scaled as the file says (model/rotation.h)
  float rope_base = 0;
  int window = 0;  // sliding attention window, 0: none
};

enum class QkNorm { none, heads, rows };  // an RMSNorm of each head's queries and keys, or of all heads' together
enum class Activation { silu, gelu };

// What is special about an architecture; as it is made: a Llama, but for the order of rotated pairs.
struct DecoderStyle {
  explicit DecoderStyle(const Config& config);

  std::vector<DecoderLayer> layers;  // one for each block
  bool interleaved = false;          // rotated are pairs (2i, 2i + 1), else (i, i + dims / 2)
  bool layer_norms = false;          // LayerNorm with a bias instead of RMSNorm
  bool pre_norms = true;             // norms before attention and feed-forward: attn_norm, ffn_norm
  bool post_norms = false;           // norms of what they add to the stream: post_attention_norm, post_ffw_norm
  bool fused = false;                // attn_qkv holds q, k and v; ffn_up holds gate and up
  QkNorm qk_norm = QkNorm::none;     // attn_q_norm, attn_k_norm
  Activation activation = Activation::silu;
  float attention_scale;                                            // of q k: 1 / sqrt(head_dim)
  float score_cap = 0;                                              // soft cap on attention scores, 0: none
  float embedding_scale = 1, residual_scale = 1, output_scale = 1;  // of embeddings, of what blocks add, of the final normed states
  // Makes a block's feed-forward from tensors that begin with `block` ("blk.3."); none: gate, up and down.
  std::function<std::unique_ptr<FeedForward>(Model& model, const std::string& block)> feed_forward;
};

// Builds it on the model's file. Error{refused}: missing or misshapen tensors.
std::unique_ptr<Network> make_decoder(Model& model, DecoderStyle style);

// A block's feed-forward of gate, up and down, `width` wide; fused: ffn_up holds gate and up.
std::unique_ptr<FeedForward> make_dense(Model& model, const std::string& block, int width, bool fused, Activation activation);

// Error{refused}: config.json names another activation than silu, which is a DecoderStyle's.
void require_silu(const nlohmann::json& config);

// A linear of a block with its bias, where the file has one: tensors NAME.weight and NAME.bias.
Linear load_biased(Model& model, const std::string& name, int out, int in);

}  // namespace fettle
