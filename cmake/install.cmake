# `cmake --install build/release --prefix DIR` leaves a directory that may be moved or copied to any
# x86-64 Linux with glibc 2.36 or newer: bin/mea, the shared libraries it needs, the demo model. The
# components: program, libraries (what others wrote), documents, models; tools/package packs them.
include(GNUInstallDirs)

if(TARGET mea)
  set_target_properties(mea PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")
  # RPATH instead of RUNPATH: only RPATH is also searched for what our libraries need in turn.
  target_link_options(mea PRIVATE -Wl,--disable-new-dtags)

  install(TARGETS mea RUNTIME_DEPENDENCY_SET mea_libraries DESTINATION bin COMPONENT program)
  # Left to the target machine: the C library, which belongs to its kernel and loader, and the GPU
  # driver, which belongs to its GPU.
  install(RUNTIME_DEPENDENCY_SET mea_libraries
    PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|pthread|rt|resolv|util|anl|mvec)\\.so" "^libcuda\\.so"
                        "^libnvidia-"
    DESTINATION lib COMPONENT libraries)
endif()
if(TARGET mea_cuda)
  set_target_properties(mea_cuda PROPERTIES INSTALL_RPATH "$ORIGIN")
  target_link_options(mea_cuda PRIVATE -Wl,--disable-new-dtags)
  install(TARGETS mea_cuda RUNTIME_DEPENDENCY_SET mea_libraries DESTINATION lib COMPONENT program)
endif()
install(FILES LICENSE DESTINATION share/doc/mea COMPONENT documents)
# What its licence asks for where the library is passed on, linked into mea.
install(FILES ${MEA_DEPS_DIR}/xgrammar/LICENSE ${MEA_DEPS_DIR}/xgrammar/NOTICE ${MEA_DEPS_DIR}/xgrammar/stamp
  DESTINATION share/doc/mea/xgrammar COMPONENT documents OPTIONAL)
install(DIRECTORY models/demo-mea DESTINATION share/mea/models COMPONENT models OPTIONAL)

# The libraries' inventory and licences; ICU's data without the 30 MB that nothing here reads.
find_program(MEA_ICUPKG icupkg PATHS /usr/sbin)
install(CODE "set(icupkg \"${MEA_ICUPKG}\")\nset(source_dir \"${PROJECT_SOURCE_DIR}\")\nset(cuda \"${CMAKE_CUDA_COMPILER_VERSION}\")"
  COMPONENT libraries)
install(SCRIPT ${PROJECT_SOURCE_DIR}/cmake/install_libraries.cmake COMPONENT libraries)
