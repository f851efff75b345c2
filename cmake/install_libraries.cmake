# Runs at the end of `cmake --install`, with icupkg, source_dir and cuda (nvcc's version, or nothing) set.
# MEA_BASE_ROOT in the environment: the image that the prefix will lie in.
set(prefix $ENV{DESTDIR}${CMAKE_INSTALL_PREFIX})
if(icupkg)
  file(GLOB icu_data ${prefix}/lib/libicudata.so.*.*)
  foreach(library ${icu_data})
    execute_process(COMMAND ${source_dir}/tools/package/icu_data ${library} ${library}
                    COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
endif()
execute_process(COMMAND ${source_dir}/tools/version OUTPUT_VARIABLE version
                OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
set(inventory ${prefix} ${version})
if(cuda)
  list(APPEND inventory --cuda ${cuda})
endif()
if(DEFINED ENV{MEA_BASE_ROOT})
  list(APPEND inventory --base $ENV{MEA_BASE_ROOT})
endif()
execute_process(COMMAND python3 ${source_dir}/tools/package/sbom.py ${inventory}
                COMMAND_ERROR_IS_FATAL ANY)
