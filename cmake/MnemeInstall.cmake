# What `cmake --install` lays down of the library: the rooms, their headers, and the package that find_package(mneme) reads.
# Proved by examples/consumer, which `make test` builds against a fresh prefix.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(rooms GLOBAL PROPERTY MNEME_ROOMS)
add_library(mneme_all INTERFACE)
add_library(mneme::mneme ALIAS mneme_all)
set_target_properties(mneme_all PROPERTIES EXPORT_NAME mneme)
target_link_libraries(mneme_all INTERFACE ${rooms})

install(TARGETS ${rooms} mneme_all EXPORT mnemeTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})

file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/mneme/*.h)
list(FILTER headers EXCLUDE REGEX "_testing\\.h$")
# Rooms on at::Tensor are used from Python or from this build; whoever has no torch could not include them.
list(FILTER headers EXCLUDE REGEX "^mneme/(attention|nn|train)/")
foreach(header ${headers})
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/${folder})
endforeach()

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/mneme)
install(EXPORT mnemeTargets NAMESPACE mneme:: DESTINATION ${package_folder})
configure_package_config_file(cmake/mnemeConfig.cmake.in ${PROJECT_BINARY_DIR}/mnemeConfig.cmake
                              INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mnemeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/mnemeConfig.cmake ${PROJECT_BINARY_DIR}/mnemeConfigVersion.cmake
        DESTINATION ${package_folder})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
