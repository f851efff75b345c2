#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace mea {

// The flags of an engine, which several commands have. Name, check and help of each stand here
// alone; its default is what the variable holds.
CLI::Option& AddModelDir(CLI::App& command, std::string& dir);
void AddDevice(CLI::App& command, std::string& device);
void AddThreads(CLI::App& command, int& num_threads);
void AddCpuAffinity(CLI::App& command, std::string& affinity);
void AddWeightDType(CLI::App& command, std::string& dtype);
void AddKvDType(CLI::App& command, std::string& dtype);
void AddPageSize(CLI::App& command, int& page_size);
// `by_default` says what 0 is.
void AddKvCacheBytes(CLI::App& command, int64_t& bytes, const std::string& by_default);
void AddMaxNumSeqs(CLI::App& command, int& max_num_seqs);
void AddMaxBatchTokens(CLI::App& command, int& max_batch_tokens);
void AddGpuMemoryUtilization(CLI::App& command, double& utilization);

}  // namespace mea
