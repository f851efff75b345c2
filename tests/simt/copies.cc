#include "tests/simt/copies.h"

#include <algorithm>
#include <cstring>

#include "tests/simt/collectives.h"

namespace mea::simt {

void Copies::Issue(void* shared, const void* global, bool valid, const Where& where) {
  CheckShared("CopyAsync16", shared, 16, where);
  CheckGlobal("CopyAsync16", global, valid ? 16 : 0, where);
  std::memset(shared, 0xff, 16);
  Copy copy = {shared, global, {}};
  if (!valid) {
    copy.global = nullptr;  // zeros
  } else if (block_.random().Below(2) == 0) {
    std::memcpy(copy.early.data(), global, 16);
    copy.global = nullptr;
  }
  Mine().copies.push_back(copy);
}

void Copies::Commit() { Mine().group_ends.push_back(Mine().copies.size()); }

void Copies::Wait(int groups) {
  Thread& thread = Mine();
  const size_t num_landing =
      thread.group_ends.size() -
      std::min<size_t>(thread.group_ends.size(), static_cast<size_t>(groups));
  if (num_landing == 0) return;
  const size_t end = thread.group_ends[num_landing - 1];
  for (size_t i = 0; i < end; ++i) {
    const Copy& copy = thread.copies[i];
    std::memcpy(copy.shared, copy.global != nullptr ? copy.global : copy.early.data(), 16);
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<ptrdiff_t>(end));
  thread.group_ends.erase(thread.group_ends.begin(),
                          thread.group_ends.begin() + static_cast<ptrdiff_t>(num_landing));
  for (size_t& group_end : thread.group_ends) group_end -= end;
}

}  // namespace mea::simt
