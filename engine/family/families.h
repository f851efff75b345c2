#pragma once

#include "engine/family/family.h"

// The families there are, one file each; registry.cc lists them.
namespace mea {

extern const Family kLlama;
extern const Family kMistral;
extern const Family kMixtral;
extern const Family kQwen2;
extern const Family kQwen3;
extern const Family kQwen3Moe;
extern const Family kGemma3;
extern const Family kPhi3;
extern const Family kSmolLm3;
extern const Family kGranite;
extern const Family kOlmo2;
extern const Family kOlmo3;

}  // namespace mea
