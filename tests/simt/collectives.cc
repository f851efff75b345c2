#include "tests/simt/collectives.h"

#include <cstring>
#include <string>

#include "tests/simt/machine.h"
#include "tests/simt/tensor_core.h"

namespace mea::simt {
namespace {

std::string Hex(const void* pointer) {
  char text[32];
  std::snprintf(text, sizeof(text), "%p", pointer);
  return text;
}

float Lower(uint32_t packed) { return std::bit_cast<float>(packed << 16); }
float Upper(uint32_t packed) { return std::bit_cast<float>(packed & 0xffff0000u); }

}  // namespace

void SyncWarp(const Where& where) {
  Block::Current().Meet("SyncWarp", where, nullptr, [](Block&, const LaneArgs&) {});
}

void NamedBarrier(int id, int num_threads, const Where& where) {
  Block& block = Block::Current();
  if (id < 1) block.Fail("NamedBarrier " + std::to_string(id) + ": ids start at 1", where);
  if (num_threads < 1) block.Fail("NamedBarrier of nobody", where);
  block.Barrier("NamedBarrier", where, id, num_threads);
}

uint32_t Ballot(bool predicate, const Where& where) {
  struct Args {
    bool predicate;
    uint32_t votes = 0;
  } args{predicate};
  Block::Current().Meet("Ballot", where, &args, [](Block&, const LaneArgs& lanes) {
    uint32_t votes = 0;
    for (int i = 0; i < kWarpSize; ++i) {
      votes |= static_cast<uint32_t>(static_cast<Args*>(lanes[i])->predicate) << i;
    }
    for (void* lane : lanes) static_cast<Args*>(lane)->votes = votes;
  });
  return args.votes;
}

uint32_t ShuffleBits(const char* what, uint32_t value, int source, const Where& where) {
  struct Args {
    uint32_t value;
    int source;
    uint32_t result = 0;
  } args{value, source};
  Block::Current().Meet(what, where, &args, [](Block&, const LaneArgs& lanes) {
    for (void* lane : lanes) {
      Args& mine = *static_cast<Args*>(lane);
      const bool inside = mine.source >= 0 && mine.source < kWarpSize;
      mine.result = inside ? static_cast<Args*>(lanes[mine.source])->value : mine.value;
    }
  });
  return args.result;
}

void CheckShared(const char* what, const void* shared, int bytes, const Where& where) {
  Block& block = Block::Current();
  if (!block.shared().Contains(shared, bytes)) {
    const auto offset = static_cast<const std::byte*>(shared) - block.shared().data();
    block.Fail(std::string(what) + ": bytes " + std::to_string(offset) + " to " +
                   std::to_string(offset + bytes) + " are not in the " +
                   std::to_string(block.shared().bytes()) + " of shared memory",
               where);
  }
  if (reinterpret_cast<uintptr_t>(shared) % static_cast<uintptr_t>(bytes) != 0) {
    block.Fail(std::string(what) + ": shared address " + Hex(shared) + " is not aligned to " +
                   std::to_string(bytes),
               where);
  }
}

void CheckGlobal(const char* what, const void* global, int bytes, const Where& where) {
  Block& block = Block::Current();
  if (reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    block.Fail(std::string(what) + ": global address " + Hex(global) + " is not aligned to 16",
               where);
  }
  if (bytes > 0 && !IsGlobal(global, bytes)) {
    block.Fail(std::string(what) + ": " + std::to_string(bytes) + " bytes at " + Hex(global) +
                   " are not in one allocation of the device",
               where);
  }
}

void LdMatrix4(uint32_t (&r)[4], const void* shared_row, bool transposed, const Where& where) {
  CheckShared("LdMatrix4", shared_row, 16, where);
  struct Args {
    const std::byte* row;
    uint32_t* r;
    bool transposed;
  } args{static_cast<const std::byte*>(shared_row), r, transposed};
  Block::Current().Meet("LdMatrix4", where, &args, [](Block&, const LaneArgs& lanes) {
    uint16_t matrix[4][8][8];
    for (int i = 0; i < kWarpSize; ++i) {
      std::memcpy(matrix[i / 8][i % 8], static_cast<Args*>(lanes[i])->row, 16);
    }
    for (int i = 0; i < kWarpSize; ++i) {
      const Args& lane = *static_cast<Args*>(lanes[i]);
      const int g = i / 4, t = i % 4;
      for (int m = 0; m < 4; ++m) {
        const uint16_t low = lane.transposed ? matrix[m][2 * t][g] : matrix[m][g][2 * t];
        const uint16_t high = lane.transposed ? matrix[m][2 * t + 1][g] : matrix[m][g][2 * t + 1];
        lane.r[m] = low | static_cast<uint32_t>(high) << 16;
      }
    }
  });
}

void MmaBf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const Where& where) {
  struct Args {
    float* d;
    const uint32_t* a;
    uint32_t b[2];
  } args{d, a, {b0, b1}};
  Block::Current().Meet("MmaBf16", where, &args, [](Block&, const LaneArgs& lanes) {
    float a_tile[16][16], b_tile[16][8];  // [m][k], [k][n]
    for (int i = 0; i < kWarpSize; ++i) {
      const Args& lane = *static_cast<Args*>(lanes[i]);
      const int g = i / 4, t = i % 4;
      for (int j = 0; j < 4; ++j) {
        const int row = g + 8 * (j % 2), k = 2 * t + 8 * (j / 2);
        a_tile[row][k] = Lower(lane.a[j]);
        a_tile[row][k + 1] = Upper(lane.a[j]);
      }
      for (int j = 0; j < 2; ++j) {
        b_tile[2 * t + 8 * j][g] = Lower(lane.b[j]);
        b_tile[2 * t + 8 * j + 1][g] = Upper(lane.b[j]);
      }
    }
    float d_tile[16][8];
    const auto each_of_d = [&](auto visit) {
      for (int i = 0; i < kWarpSize; ++i) {
        const Args& lane = *static_cast<Args*>(lanes[i]);
        for (int j = 0; j < 4; ++j)
          visit(lane.d[j], d_tile[i / 4 + 8 * (j / 2)][2 * (i % 4) + j % 2]);
      }
    };
    each_of_d([](float& lane, float& tile) { tile = lane; });
    for (int m = 0; m < 16; ++m) AddTensorCoreProducts(a_tile[m], b_tile[0], 8, d_tile[m]);
    each_of_d([](float& lane, float& tile) { lane = tile; });
  });
}

}  // namespace mea::simt
