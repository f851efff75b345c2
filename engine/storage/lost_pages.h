#pragma once

#include <cstdint>
#include <string>

namespace mea {

// Reading a page of a mapped file that no longer exists, because the file was cut short or its disk
// failed, raises SIGBUS, and nothing computed from it can be saved. After this call the process
// then ends with `exit_code` and one line on stderr that names the file:
//   PROGRAM: PATH: lost while it was in use: ...
// Other causes of SIGBUS are not affected.
void ExitOnLostPages(const std::string& program, int exit_code);

// The files that the handler knows: a MappedFile is listed while it lives, and `path` must live as
// long. Thread-safe. Only 8192 files are listed; the loss of another is not explained.
void ListMappedFile(const char* data, int64_t size, const char* path);
void UnlistMappedFile(const char* data);

}  // namespace mea
