#include "engine/weights/weight_cache.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "engine/storage/output_file.h"
#include "tests/engine/checkpoint/weights_support.h"

namespace mea {
namespace {

namespace fs = std::filesystem;

// Every number of a model, in the order of its list.
std::vector<std::string> Bytes(const ModelConfig& config, const ModelWeights& weights) {
  ModelWeights views{.embedding = weights.embedding,
                     .layers = weights.layers,
                     .final_norm = weights.final_norm,
                     .lm_head = weights.lm_head};
  std::vector<std::string> bytes;
  const TensorList list = ListTensors(config, views);
  for (const TensorSpec& spec : list.specs()) {
    if (spec.is_temporary) continue;
    const TensorView& view = *spec.view;
    bytes.emplace_back(static_cast<const char*>(view.data),
                       view.shape[0] * view.stride[0] * DTypeSize(view.dtype));
  }
  return bytes;
}

class WeightCacheTest : public ::testing::Test {
 protected:
  // What a start with the cache gets.
  std::vector<std::string> Start(const Opened& opened, DType dtype = DType::kI8) {
    warnings_.clear();
    weights_ = Loaded(opened, {.weight_dtype = dtype,
                               .weight_cache = cache_,
                               .warn = [this](const std::string& w) { warnings_.push_back(w); }});
    return Bytes(opened.checkpoint->config, weights_);
  }
  std::vector<std::string> Plain(const Opened& opened, DType dtype = DType::kI8) {
    return Bytes(opened.checkpoint->config, Loaded(opened, {.weight_dtype = dtype}));
  }
  std::vector<fs::path> Files() const {
    std::vector<fs::path> files;
    if (!fs::exists(cache_)) return files;
    for (const auto& entry : fs::directory_iterator(cache_)) files.push_back(entry.path());
    return files;
  }
  fs::path OnlyFile() const {
    const std::vector<fs::path> files = Files();
    EXPECT_EQ(files.size(), 1u);
    return files.empty() ? fs::path() : files[0];
  }
  // Whether the weights of the last start are pages of the cache's file.
  bool IsMapped() const {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      if (line.ends_with(".weights")) return true;
    }
    return false;
  }

  const TempDir dir_;
  const fs::path cache_ = dir_.path() / "deep" / "cache";
  ModelWeights weights_;
  std::vector<std::string> warnings_;
};

TEST_F(WeightCacheTest, TheNextStartMapsTheSameNumbers) {
  std::vector<std::pair<RandomCheckpointSpec, DType>> cases;
  for (const DType to : {DType::kI4, DType::kI8, DType::kBf16}) {
    cases.push_back({{}, to});
    cases.push_back({{.tie_word_embeddings = true, .num_shards = 3}, to});
    cases.push_back({{.base_model_type = "mixtral"}, to});
    cases.push_back({{.base_model_type = "qwen3", .mea = true, .knock = "linear"}, to});
    cases.push_back({{.kv_heads = 4, .mea = true, .pseudo_heads = 3, .layer_windows = {8, 0}}, to});
  }
  for (const auto& [spec, dtype] : cases) {
    SCOPED_TRACE(ConfigJson(spec));
    fs::remove_all(cache_);
    const auto opened = Write(spec);
    const std::vector<std::string> plain = Plain(*opened, dtype);
    EXPECT_EQ(Start(*opened, dtype), plain);
    EXPECT_FALSE(IsMapped());
    const int64_t num_bytes = weights_.num_bytes;
    EXPECT_EQ(Start(*opened, dtype), plain);
    EXPECT_TRUE(IsMapped());
    EXPECT_EQ(weights_.num_bytes, num_bytes);
    EXPECT_TRUE(warnings_.empty());
    OnlyFile();
    weights_ = {};
    EXPECT_FALSE(IsMapped());
  }
}

TEST_F(WeightCacheTest, WhatNeedsNoConversionNeedsNoFile) {
  Start(*Write({.dtype = DType::kBf16}), DType::kBf16);
  EXPECT_FALSE(fs::exists(cache_));
}

TEST_F(WeightCacheTest, OtherNumbersTimesAndDTypesHaveFilesOfTheirOwn) {
  const auto opened = Write({});
  const fs::path file = opened->dir.path() / "model.safetensors";
  const auto time = fs::last_write_time(file);
  const std::vector<std::string> first = Start(*opened);
  Start(*opened, DType::kBf16);
  EXPECT_EQ(Files().size(), 2u);
  // Another checkpoint with the same names, sizes and times.
  WriteRandomCheckpoint(opened->dir.path(), {}, kSeed + 1);
  fs::last_write_time(file, time);
  opened->checkpoint = OpenCheckpoint(opened->dir.path());
  EXPECT_NE(Start(*opened), first);
  EXPECT_EQ(Start(*opened), Plain(*opened));
  EXPECT_EQ(Files().size(), 3u);
  fs::last_write_time(file, time + std::chrono::seconds(1));
  EXPECT_EQ(Start(*opened), Plain(*opened));
  EXPECT_EQ(Files().size(), 4u);
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(WeightCacheTest, ADamagedFileIsNotUsedButWrittenAnew) {
  const auto opened = Write({});
  const std::vector<std::string> plain = Start(*opened);
  const fs::path file = OnlyFile();
  const std::string whole = testing::ReadText(file);
  const int64_t size = std::ssize(whole);
  std::vector<std::string> damaged = {
      "",
      "x",
      whole + "x",
      whole.substr(0, size - 1),
      std::string(whole.size(), '\0'),
      "version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 9\n"};
  // The manifest, the zeros behind it, the tensors, the last checksum.
  const int64_t data = size - 8 - (size - 8) % 64;
  for (const int64_t at : {int64_t{0}, int64_t{40}, data - 64, data - 20'000, size - 1}) {
    ASSERT_GT(at, -1);
    damaged.push_back(whole);
    damaged.back()[at] ^= 1;
  }
  for (const std::string& bytes : damaged) {
    SCOPED_TRACE(bytes.substr(0, 10));
    testing::WriteText(file, bytes);
    EXPECT_EQ(Start(*opened), plain);
    ASSERT_EQ(warnings_.size(), 1u);
    EXPECT_TRUE(warnings_[0].starts_with("--weight-cache: " + file.string() + ": "))
        << warnings_[0];
    EXPECT_EQ(OnlyFile(), file);
    EXPECT_EQ(testing::ReadText(file), whole);
    EXPECT_EQ(Start(*opened), plain);
    EXPECT_TRUE(warnings_.empty());
  }
}

TEST_F(WeightCacheTest, AnotherCheckpointsFileUnderThisNameIsNotUsed) {
  const auto opened = Write({});
  const std::vector<std::string> plain = Start(*opened);
  const fs::path file = OnlyFile();
  const auto other = std::make_unique<Opened>();
  WriteRandomCheckpoint(other->dir.path(), {}, kSeed + 1);
  other->checkpoint = OpenCheckpoint(other->dir.path());
  Start(*other);
  for (const fs::path& theirs : Files()) {
    if (theirs != file) fs::rename(theirs, file);
  }
  EXPECT_EQ(Start(*opened), plain);
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_TRUE(warnings_[0].ends_with(": expected this checkpoint's weights, found others"));
}

TEST_F(WeightCacheTest, WithoutRoomTheWeightsLoadWithAWarningAndNothingIsLeft) {
  const auto opened = Write({});
  const std::vector<std::string> plain = Plain(*opened);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {8192, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_EQ(Start(*opened), plain);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_TRUE(warnings_[0].starts_with("--weight-cache: cannot write ")) << warnings_[0];
  EXPECT_TRUE(warnings_[0].ends_with(".weights.new: File too large")) << warnings_[0];
  EXPECT_TRUE(Files().empty());
}

TEST_F(WeightCacheTest, WhatIsNoDirectoryIsAWarning) {
  const auto opened = Write({});
  testing::WriteText(dir_.path() / "deep", "a file");
  EXPECT_EQ(Start(*opened), Plain(*opened));
  ASSERT_GE(warnings_.size(), 1u);
  EXPECT_TRUE(warnings_.back().starts_with("--weight-cache: ")) << warnings_.back();
}

TEST_F(WeightCacheTest, SeveralStartsAtOnceAreAsGoodAsOne) {
  const auto opened = Write({});
  const std::vector<std::string> plain = Plain(*opened);
  for (int round = 0; round < 10; ++round) {
    fs::remove_all(cache_);
    std::vector<std::jthread> starts;
    for (int i = 0; i < 4; ++i) {
      starts.emplace_back([&] {
        const ModelWeights weights =
            Loaded(*opened, {.weight_dtype = DType::kI8,
                             .weight_cache = cache_,
                             .warn = [](const std::string& w) { ADD_FAILURE() << w; }});
        EXPECT_EQ(Bytes(opened->checkpoint->config, weights), plain);
      });
    }
    starts.clear();
    EXPECT_EQ(OnlyFile().extension(), ".weights");
    EXPECT_EQ(Start(*opened), plain);
    EXPECT_TRUE(IsMapped());
  }
}

TEST_F(WeightCacheTest, WhatAnotherLeftUnfinishedIsReplaced) {
  const auto opened = Write({});
  const std::vector<std::string> plain = Start(*opened);
  const fs::path file = OnlyFile();
  const std::string whole = testing::ReadText(file);
  fs::remove(file);
  testing::WriteText(file.string() + ".new", whole + whole);
  EXPECT_EQ(Start(*opened), plain);
  EXPECT_EQ(testing::ReadText(OnlyFile()), whole);
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(WeightCacheTest, AFileThatAnotherWritesIsLeftToIt) {
  const auto opened = Write({});
  const std::vector<std::string> plain = Start(*opened);
  const fs::path file = OnlyFile();
  const fs::path fresh = file.string() + ".new";
  fs::remove(file);
  const auto other = OutputFile::CreateAlone(fresh);
  ASSERT_TRUE(other.ok() && *other != nullptr);
  ASSERT_TRUE((*other)->Append("begun").ok());
  EXPECT_EQ(Start(*opened), plain);
  EXPECT_TRUE(warnings_.empty());
  EXPECT_EQ(OnlyFile(), fresh);
  EXPECT_EQ(testing::ReadText(fresh), "begun");
}

TEST_F(WeightCacheTest, WhatWasNotCheckedIsNotTakenForChecked) {
  const auto opened = Write({});
  Tensors tensors({});
  tensors.Set("model.layers.0.mlp.up_proj.weight", 3, std::numeric_limits<float>::infinity());
  testing::WriteSafeTensors(opened->dir.path() / "model.safetensors", tensors.all);
  opened->checkpoint = OpenCheckpoint(opened->dir.path());
  const auto load = [&](bool check) {
    return LoadWeights(
        *opened->checkpoint,
        {.weight_dtype = DType::kBf16, .check_matrices = check, .weight_cache = cache_});
  };
  EXPECT_TRUE(load(false).ok());
  EXPECT_TRUE(load(false).ok());
  EXPECT_EQ(load(true).status().code(), absl::StatusCode::kInvalidArgument);
  OnlyFile();
}

TEST_F(WeightCacheTest, ProgressOfACachedStartEndsAtTheTotal) {
  const auto opened = Write({.base_model_type = "mixtral"});
  Start(*opened);
  std::vector<std::pair<int64_t, int64_t>> reports;
  const auto weights = LoadWeights(
      *opened->checkpoint, {.weight_dtype = DType::kI8, .weight_cache = cache_},
      [&](std::string_view, int64_t done, int64_t total) { reports.emplace_back(done, total); });
  ASSERT_TRUE(weights.ok());
  EXPECT_EQ(reports.front().first, 0);
  EXPECT_EQ(reports.back().first, reports.back().second);
  EXPECT_TRUE(std::is_sorted(reports.begin(), reports.end()));
}

}  // namespace
}  // namespace mea
