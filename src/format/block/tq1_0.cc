// TQ1_0: 256 ternary weights, one half scale d: d * (trit - 1). Block: bytes of trits; d. Byte l of the first 32 holds weights l, l + 32,
// ... (five), byte l of the next 16 holds weights 160 + l, 176 + l, ... (five), byte l of the last 4 holds 240 + l, 244 + l, ... (four). A
// byte is a fraction of 256 whose digits to the base three are the trits, so that multiplying by three brings each digit to the top; it is
// rounded up, which keeps the digits.
#include "format/ternary.h"

namespace fettle {
namespace {

// Runs of bytes: where the first lies, how many there are, which weight is the first one's first, and how many weights a byte has.
struct Run {
  int byte, bytes, weight, trits;
};
constexpr Run kRuns[] = {{0, 32, 0, 5}, {32, 16, 160, 5}, {48, 4, 240, 4}};

struct TQ1_0 {
  static constexpr int kBlock = 256, kBytes = 54, kGroup = 32, kBias = 1;
  static constexpr bool kAffine = false;
  static void codes(const uint8_t* b, uint8_t* codes) {
    for (const Run& r : kRuns)
      for (int l = 0; l < r.bytes; l++) {
        int fraction = b[r.byte + l];
        for (int t = 0; t < r.trits; t++, fraction = fraction * 3 & 255) codes[r.weight + t * r.bytes + l] = uint8_t(fraction * 3 >> 8);
      }
  }
  static void put_codes(const uint8_t* codes, uint8_t* b) {
    for (const Run& r : kRuns)
      for (int l = 0; l < r.bytes; l++) {
        int number = 0;  // of 3^5
        for (int t = 0; t < 5; t++) number = number * 3 + (t < r.trits ? codes[r.weight + t * r.bytes + l] : 0);
        b[r.byte + l] = uint8_t((number * 256 + 242) / 243);
      }
  }
  static void scales(const uint8_t* b, float* scales, float*) { same_scale(read_half(b + 52), scales); }

  static void encode(Sample& s, uint8_t* b) {
    uint8_t codes[kBlock];
    write_u16(b + 52, encode_ternary(s, codes));
    put_codes(codes, b);
  }
};

}  // namespace

extern const Format format_tq1_0 = {.name = "TQ1_0",
                                    .gguf_id = 34,
                                    .file_type = 36,
                                    .block = TQ1_0::kBlock,
                                    .block_bytes = TQ1_0::kBytes,
                                    .group = TQ1_0::kGroup,
                                    .codes = 3,
                                    .zero = TQ1_0::kBias,
                                    .table = nullptr,
                                    .scale_at = 52,
                                    .min_at = -1,
                                    .by_name = true,
                                    .decode = decode_blocks<TQ1_0>,
                                    .encode = encode_blocks<TQ1_0>,
                                    .unpack = unpack_blocks<TQ1_0>,
                                    .recode = recode_blocks<TQ1_0>};

}  // namespace fettle
