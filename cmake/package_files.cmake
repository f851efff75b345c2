# Debian's libraries are where the loader looks anyway.
file(GLOB_RECURSE programs ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*/usr/bin/mea
                           ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/bin/mea)
foreach(program ${programs})
  file(RPATH_REMOVE FILE ${program})
endforeach()
