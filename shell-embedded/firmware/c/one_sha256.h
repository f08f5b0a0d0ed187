/* libsecp256k1 brings a SHA-256 whose rounds are unrolled: 7 KiB. CFLAGS include this header
   before its sources, and blocks go to the image's one SHA-256 (src/lib.rs) instead. */
#include <stdint.h>

void blvm_mesh_sha256_compress(uint32_t *state, const unsigned char *block);

/* The first token between the parentheses tells the definition, which nothing calls any more,
   from the call. */
#define rustsecp256k1_v0_11_sha256_transform(state, block) ONE_SHA256_##state, block)
#define ONE_SHA256_uint32_t unused_sha256_transform(uint32_t
#define ONE_SHA256_hash blvm_mesh_sha256_compress(hash
