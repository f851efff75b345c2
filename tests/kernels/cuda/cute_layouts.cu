// Writes tests/golden/cute_layouts.txt: where CuTe says that fragments and operands of the tensor
// cores lie, to compare the emulator and the cache's layout with. Needs the headers of CUTLASS
// (BSD-3-Clause, github.com/NVIDIA/cutlass, commit 7107b05), nvcc and no GPU:
//   nvcc -std=c++17 -arch=sm_90a --expt-relaxed-constexpr -I CUTLASS/include -o print THIS_FILE
//   ./print tests/golden/cute_layouts.txt
#include <cstdio>
#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/tensor.hpp>

using namespace cute;
using bf16 = bfloat16_t;

FILE* out;

// At (thread, value): row + rows * column.
template <class Layout>
void Fragment(const char* name, Layout layout) {
  std::fprintf(out, "%s %d %d\n", name, int(size<0>(layout)), int(size<1>(layout)));
  for (int thread = 0; thread < size<0>(layout); ++thread) {
    for (int value = 0; value < size<1>(layout); ++value) {
      std::fprintf(out, "%d%c", int(layout(thread, value)),
                   value + 1 < size<1>(layout) ? ' ' : '\n');
    }
  }
}

// At (row, granule): the place, in granules of 16 bytes, of element `8 granule` of 16-byte rows.
// `at` gives the offset of (row, element).
template <class At>
void Granules(const char* name, int rows, int elements, At at) {
  std::fprintf(out, "%s %d %d\n", name, rows, elements / 8);
  for (int row = 0; row < rows; ++row) {
    for (int granule = 0; granule < elements / 8; ++granule) {
      const int first = at(row, 8 * granule);
      for (int i = 1; i < 8; ++i) {
        if (at(row, 8 * granule + i) != first + i) std::abort();
      }
      std::fprintf(out, "%d%c", first / 8, granule + 1 < elements / 8 ? ' ' : '\n');
    }
  }
}

// Of the descriptor of a layout's first `rows` by 16: leading bytes, stride bytes, the upper 16
// bits.
template <GMMA::Major major, int rows, class Layout>
void Descriptor(const char* name, Layout layout) {
  const auto whole = make_tensor(make_smem_ptr(static_cast<bf16*>(nullptr)), layout);
  const auto tensor = local_tile(whole, Shape<Int<rows>, _16>{}, make_coord(0, 0));
  const GmmaDescriptor d = GMMA::make_gmma_desc<major>(tensor);
  std::fprintf(out, "%s 1 3\n%d %d %d\n", name, int(d.bitfield.leading_byte_offset_) * 16,
               int(d.bitfield.stride_byte_offset_) * 16, int(uint64_t(d) >> 48));
}

// The layout of elements, not of addresses, to which CuTe would apply the swizzle itself.
template <class Layout>
auto Swizzled(Layout layout) {
  return [of_elements = as_position_independent_swizzle_layout(layout)](int i, int j) {
    return int(of_elements(i, j));
  };
}

int main(int argc, char** argv) {
  if (argc != 2 || (out = std::fopen(argv[1], "w")) == nullptr) return 1;
  using Mma = MMA_Traits<SM80_16x8x16_F32BF16BF16F32_TN>;
  Fragment("mma_m16n8k16_a", typename Mma::ALayout{});
  Fragment("mma_m16n8k16_b", typename Mma::BLayout{});
  Fragment("mma_m16n8k16_d", typename Mma::CLayout{});
  Fragment("wgmma_m64k16_a_in_registers", GMMA::ALayout_64x16{});
  Fragment("wgmma_m64n64_d", GMMA::CLayout_64x64{});
  Fragment("wgmma_m64n128_d", GMMA::CLayout_64x128{});

  // 64 rows of keys or queries: chunks of 64 elements, one behind the other.
  const auto keys = tile_to_shape(GMMA::Layout_K_SW128_Atom<bf16>{}, Shape<_64, _128>{});
  Granules("k_major_64x128", 64, 128, Swizzled(keys));
  Descriptor<GMMA::Major::K, 64>("k_major_64x16_descriptor", keys);
  // Values of 64 tokens and of 128, read with the elements as rows of B.
  const auto values =
      tile_to_shape(GMMA::Layout_MN_SW128_Atom<bf16>{}, Shape<_128, _64>{}, Step<_2, _1>{});
  Granules("mn_major_128x64", 64, 128,
           [at = Swizzled(values)](int token, int element) { return at(element, token); });
  Descriptor<GMMA::Major::MN, 128>("mn_major_128x16_of_64_descriptor", values);
  const auto more =
      tile_to_shape(GMMA::Layout_MN_SW128_Atom<bf16>{}, Shape<_128, _128>{}, Step<_2, _1>{});
  Descriptor<GMMA::Major::MN, 128>("mn_major_128x16_of_128_descriptor", more);
  std::fclose(out);
}
