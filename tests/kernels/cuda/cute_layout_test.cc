// The cache's layout, and the fragments, operands and descriptors of the emulator's tensor cores,
// against tables that CuTe printed (tests/kernels/cuda/cute_layouts.cu): nobody who wrote one side
// wrote the other.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <string>

#include "kernels/cuda/attention/slab_layout.h"
#include "kernels/cuda/device/launch.h"
#include "kernels/cuda/device/mbarrier.h"
#include "kernels/cuda/device/mma.h"
#include "kernels/cuda/device/wgmma.h"
#include "tests/simt/device_vector.h"

namespace mea::cuda {
namespace {

using simt::DeviceVector;

struct Table {
  int rows = 0;
  int columns = 0;
  std::vector<int> values;
  int at(int row, int column) const { return values[row * columns + column]; }
};

const Table& Named(const std::string& name) {
  static const auto* tables = [] {
    auto* read = new std::map<std::string, Table>;
    std::ifstream file(MEA_SOURCE_DIR "/tests/golden/cute_layouts.txt");
    std::string next;
    for (Table table; file >> next >> table.rows >> table.columns;) {
      table.values.resize(table.rows * table.columns);
      for (int& value : table.values) file >> value;
      (*read)[next] = table;
    }
    return read;
  }();
  return tables->at(name);
}

TEST(CuteLayoutTest, ATileOfTheCacheIsWhatTensorCoresRead) {
  // Keys are the rows of B, tokens by elements; values are B, elements by tokens.
  for (const char* name : {"k_major_64x128", "mn_major_128x64"}) {
    const Table& places = Named(name);
    for (int token = 0; token < 64; ++token) {
      for (int granule = 0; granule < 16; ++granule) {
        ASSERT_EQ(SlabLayout::TileOffset(token, 8 * granule), 8 * places.at(token, granule))
            << name << " token " << token << " granule " << granule;
      }
    }
  }
}

// ---- A product of the emulator, whose operands and fragments lie as the tables say.

struct Product {
  std::vector<Bf16> a, b;  // [m, 16], [n, 16]
  std::vector<float> d;    // [m, n]

  Product(int m, int n) : a(m * 16), b(n * 16), d(m * n) {
    std::mt19937 random(3);
    for (Bf16& x : a) x = ToBf16(static_cast<float>(random() % 31) - 15);
    for (Bf16& x : b) x = ToBf16(static_cast<float>(random() % 31) - 15);
    for (int i = 0; i < m * n * 16; ++i) {
      d[i / 16] += ToFloat(a[i / 16 / n * 16 + i % 16]) * ToFloat(b[i / 16 % n * 16 + i % 16]);
    }
  }
};

// Elements of [rows, columns] at a thread's places, which count rows first.
std::vector<uint32_t> Fragments(const std::vector<Bf16>& elements, const Table& places, int rows,
                                int columns) {
  std::vector<uint32_t> registers(places.values.size() / 2);
  for (size_t i = 0; i < places.values.size(); ++i) {
    const int place = places.values[i];
    registers[i / 2] |= uint32_t{elements[place % rows * columns + place / rows].bits}
                        << 16 * (i % 2);
  }
  return registers;
}

std::vector<float> Gathered(const std::vector<float>& fragments, const Table& places, int rows,
                            int columns) {
  std::vector<float> d(rows * columns);
  for (size_t i = 0; i < fragments.size(); ++i) {
    const int place = places.values[i];
    d[place % rows * columns + place / rows] = fragments[i];
  }
  return d;
}

void MmaKernel(const uint32_t* a, const uint32_t* b, float* d) {
  const auto lane = static_cast<int>(threadIdx.x);
  uint32_t registers[4];
  for (int i = 0; i < 4; ++i) registers[i] = a[4 * lane + i];
  float sums[4] = {};
  MmaBf16(sums, registers, b[2 * lane], b[2 * lane + 1]);
  for (int i = 0; i < 4; ++i) d[4 * lane + i] = sums[i];
}

TEST(CuteLayoutTest, FragmentsOfMma) {
  const Product product(16, 8);
  const DeviceVector<uint32_t> a(Fragments(product.a, Named("mma_m16n8k16_a"), 16, 16));
  const DeviceVector<uint32_t> b(Fragments(product.b, Named("mma_m16n8k16_b"), 8, 16));
  const Table& places = Named("mma_m16n8k16_d");
  const DeviceVector<float> d(places.values.size());
  ASSERT_EQ(Launch({.grid = dim3(1), .block = dim3(32)}, MmaKernel, a.data(), b.data(), d.data()),
            cudaSuccess);
  EXPECT_EQ(Gathered(d.ToHost(), places, 16, 8), product.d);
}

constexpr int kImageBytes = 64 * 128 * 2;  // of one operand

template <int n, bool a_in_registers>
void WgmmaKernel(const std::byte* images, const uint32_t* a, float* d, int leading, int stride) {
  const auto thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < 2 * kImageBytes; i += 128) DynamicShared()[i] = images[i];
  FenceProxyAsync();
  SyncThreads();
  float sums[n / 2] = {};
  uint32_t registers[4] = {};
  const MatrixDescriptor b = Descriptor(DynamicShared() + kImageBytes, leading, stride);
  if constexpr (a_in_registers) {
    for (int i = 0; i < 4; ++i) registers[i] = a[4 * thread + i];
  }
  WgmmaFence(sums);
  if constexpr (a_in_registers) {
    WgmmaRS64<n>(sums, registers, b, false);
  } else {
    WgmmaSS64<n>(sums, Descriptor(DynamicShared(), leading, stride), b, false);
  }
  WgmmaCommit();
  WgmmaWait<0>(sums);
  for (int i = 0; i < n / 2; ++i) d[n / 2 * thread + i] = sums[i];
}

// [rows, 16], the first 16 of a row of K-major operands, or of N in 16 rows of MN-major ones.
void Place(const std::vector<Bf16>& elements, const Table& granules, bool is_mn_major,
           std::byte* image) {
  const int rows = static_cast<int>(elements.size()) / 16;
  for (int i = 0; i < rows * 16; ++i) {
    const int row = is_mn_major ? i % 16 : i / 16;
    const int column = is_mn_major ? i / 16 : i % 16;
    std::memcpy(image + granules.at(row, column / 8) * 16 + column % 8 * 2, &elements[i], 2);
  }
}

template <int n, bool a_in_registers>
void ExpectWgmma(const std::string& d_name, const std::string& image,
                 const std::string& descriptor) {
  const Product product(64, n);
  std::vector<std::byte> images(2 * kImageBytes);
  if (!a_in_registers) Place(product.a, Named(image), false, images.data());
  Place(product.b, Named(image), a_in_registers, images.data() + kImageBytes);
  const DeviceVector<std::byte> device_images(images);
  const DeviceVector<uint32_t> a(
      Fragments(product.a, Named("wgmma_m64k16_a_in_registers"), 64, 16));
  const Table& places = Named(d_name);
  const DeviceVector<float> d(places.values.size());
  const Table& strides = Named(descriptor);
  ASSERT_EQ(Launch({.grid = dim3(1), .block = dim3(128), .shared_bytes = 2 * kImageBytes},
                   WgmmaKernel<n, a_in_registers>, device_images.data(), a.data(), d.data(),
                   a_in_registers ? strides.at(0, 0) : 0, strides.at(0, 1)),
            cudaSuccess);
  EXPECT_EQ(Gathered(d.ToHost(), places, 64, n), product.d);
}

TEST(CuteLayoutTest, FragmentsAndOperandsOfWgmma) {
  ExpectWgmma<64, false>("wgmma_m64n64_d", "k_major_64x128", "k_major_64x16_descriptor");
  ExpectWgmma<128, true>("wgmma_m64n128_d", "mn_major_128x64", "mn_major_128x16_of_64_descriptor");
}

// The strides that the kernels pass, and the bits of a descriptor behind the address.
void DescriptorKernel(uint64_t* descriptors) {
  if (threadIdx.x != 0) return;
  descriptors[0] = Descriptor(DynamicShared(), 0, 1024);
  descriptors[1] = Descriptor(DynamicShared(), 64 * 128, 1024);
  descriptors[2] = Descriptor(DynamicShared(), 128 * 128, 1024);
}

TEST(CuteLayoutTest, Descriptors) {
  const DeviceVector<uint64_t> out(3);
  ASSERT_EQ(Launch({.grid = dim3(1), .block = dim3(32), .shared_bytes = 1024}, DescriptorKernel,
                   out.data()),
            cudaSuccess);
  const std::vector<uint64_t> descriptors = out.ToHost();
  const char* names[] = {"k_major_64x16_descriptor", "mn_major_128x16_of_64_descriptor",
                         "mn_major_128x16_of_128_descriptor"};
  for (int i = 0; i < 3; ++i) {
    const Table& fields = Named(names[i]);
    const auto field = [&](int shift) {
      return static_cast<int>(descriptors[i] >> shift & 0x3fff) * 16;
    };
    // A K-major operand's leading bytes are not used: CuTe says 16, we say 0.
    if (i > 0) {
      EXPECT_EQ(field(16), fields.at(0, 0)) << names[i];
    }
    EXPECT_EQ(field(32), fields.at(0, 1)) << names[i];
    EXPECT_EQ(descriptors[i] >> 48, static_cast<uint64_t>(fields.at(0, 2))) << names[i];
  }
}

}  // namespace
}  // namespace mea::cuda
