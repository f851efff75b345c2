# Flags that every target of the project is built with, and the two helpers that declare rooms and
# their tests. Libraries of others are never built with them.
add_library(mea_options INTERFACE)
target_include_directories(mea_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(mea_options INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-pthread;-Wall;-Wextra;-Werror;-Wshadow;-Wnon-virtual-dtor;-Wno-missing-field-initializers;-fvisibility=hidden>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Werror,-fvisibility=hidden;-Werror=all-warnings>")
if(MEA_SANITIZE)
  # Instrumented code makes g++ 12 see uninitialised reads that are not there.
  target_compile_options(mea_options INTERFACE -fsanitize=${MEA_SANITIZE} -fno-omit-frame-pointer
                                               -fno-sanitize-recover=all -Wno-maybe-uninitialized)
  target_compile_definitions(mea_options INTERFACE _GLIBCXX_ASSERTIONS)
  target_link_options(mea_options INTERFACE -fsanitize=${MEA_SANITIZE})
endif()

# mea_room(NAME SOURCES a.cc ... [PUBLIC libs...] [PRIVATE libs...]): one static library of the project.
function(mea_room name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_PUBLIC} PRIVATE mea_options ${ARG_PRIVATE})
endfunction()

# Headers that cost more to parse than most files that include them take to compile. One target's
# precompiled copy serves every test; where flags differ too much the compiler falls back to the
# headers themselves, which is slower and nothing else.
function(mea_precompile_test_headers)
  add_library(mea_test_headers OBJECT ${PROJECT_SOURCE_DIR}/cmake/empty.cc)
  target_link_libraries(mea_test_headers PRIVATE mea_options GTest::gmock)
  target_compile_definitions(mea_test_headers PRIVATE MEA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_precompile_headers(mea_test_headers PRIVATE <gmock/gmock.h> <gtest/gtest.h>)
endfunction()

# mea_test(NAME SOURCES a.cc ... [LIBS libs...] [LABELS slow simt threads]): one GoogleTest binary.
# Tests that are neither "slow" nor run on the device emulator ("simt", which finds faults of memory
# itself) are the fast ones, which the run under ASan and UBSan builds and repeats; those with the
# label "threads" have several threads at work, so the run under TSan builds and repeats them.
add_custom_target(fast_tests)
add_custom_target(threads_tests)
function(mea_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE mea_options ${ARG_LIBS} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE MEA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_compile_options(${name} PRIVATE -Wno-error=invalid-pch)
  target_precompile_headers(${name} REUSE_FROM mea_test_headers)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 600)
  if(NOT "slow" IN_LIST ARG_LABELS AND NOT "simt" IN_LIST ARG_LABELS)
    add_dependencies(fast_tests ${name})
  endif()
  if("threads" IN_LIST ARG_LABELS)
    add_dependencies(threads_tests ${name})
  endif()
endfunction()
