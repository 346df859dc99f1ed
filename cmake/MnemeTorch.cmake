# libtorch for the rooms that work on at::Tensor. It is found in build/torch-venv (tools/install_torch.sh puts it there) or in any
# environment that MNEME_TORCH_SITE names, and linked as libtorch_cpu and libc10 alone: that is all the CPU needs, and it starts in
# a quarter of a second. MNEME_TORCH=AUTO leaves those rooms out where there is no torch; ON makes that an error; OFF never looks.
set(MNEME_TORCH AUTO CACHE STRING "Build the rooms that need torch: AUTO, ON or OFF")
set(MNEME_TORCH_SITE "" CACHE PATH "The site-packages folder that holds torch/ (default: of build/torch-venv)")

set(MNEME_HAS_TORCH FALSE)
if(MNEME_TORCH)
  set(site "${MNEME_TORCH_SITE}")
  if(NOT site)
    set(site ${PROJECT_SOURCE_DIR}/build/torch-venv/lib/python3*/site-packages)  # a glob
  endif()
  # A build that was configured before torch came looks again.
  file(GLOB torch_metadata CONFIGURE_DEPENDS ${site}/torch-*.dist-info/METADATA)
  if(torch_metadata)
    list(GET torch_metadata 0 torch_metadata)
    cmake_path(GET torch_metadata PARENT_PATH site)
    cmake_path(GET site PARENT_PATH site)
  endif()
  if(torch_metadata AND EXISTS ${site}/torch/lib/libtorch_cpu.so)
    set(MNEME_HAS_TORCH TRUE)
  elseif(MNEME_TORCH STREQUAL ON)
    message(FATAL_ERROR "MNEME_TORCH=ON, but there is no torch in '${site}': run tools/install_torch.sh or set MNEME_TORCH_SITE")
  else()
    message(STATUS "Mneme: no torch in '${site}', so mneme/attention and torch.ops.mneme are left out (tools/install_torch.sh)")
  endif()
endif()

if(MNEME_HAS_TORCH)
  # The Python whose site-packages these are.
  cmake_path(SET MNEME_TORCH_PYTHON NORMALIZE ${site}/../../../bin/python3)
  file(STRINGS ${torch_metadata} torch_version REGEX "^Version: ")
  message(STATUS "Mneme: torch of ${site} (${torch_version})")
  # libtorch_cpu of the CUDA wheel names the CUDA runtime and CUPTI; the loader must find them beside it.
  file(GLOB cuda_libraries ${site}/nvidia/*/lib)
  add_library(mneme_torch INTERFACE)
  target_include_directories(mneme_torch SYSTEM INTERFACE ${site}/torch/include ${site}/torch/include/torch/csrc/api/include)
  target_link_libraries(mneme_torch INTERFACE ${site}/torch/lib/libtorch_cpu.so ${site}/torch/lib/libc10.so)
  # Wheels carry their own copies of such libraries as libgomp under changed names; what they leave open is found at load time.
  target_link_options(mneme_torch INTERFACE -Wl,--allow-shlib-undefined -Wl,--no-as-needed)
  set(torch_rpath ${site}/torch/lib ${cuda_libraries})
  foreach(folder ${torch_rpath})
    target_link_options(mneme_torch INTERFACE -Wl,-rpath,${folder} -Wl,-rpath-link,${folder})
  endforeach()
endif()
