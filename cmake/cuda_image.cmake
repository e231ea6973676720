# The kernels' machine code for every architecture (csrc/devices/cuda/image.h): one compilation each, side by side, then
# one compressed fat binary within the program. Nothing else of CUDA is needed, and CMake's CUDA language is not.

set(QWEN35_CUDA AUTO CACHE STRING "CUDA kernels. ON: compiled by nvcc, which must be there (make cuda). OFF: none. \
AUTO: where nvcc is found, in a wheel of `python -m build`; never in an editable install nor by pip itself, since the \
kernels take minutes.")
set_property(CACHE QWEN35_CUDA PROPERTY STRINGS AUTO ON OFF)
# Code of 8.0 also runs on 8.7, of 8.6 on 8.8, of 10.0 on 10.3, of 12.0 on 12.1.
set(QWEN35_CUDA_ARCHITECTURES 80 86 89 90 100 120 CACHE STRING "Compute capabilities to compile kernels for")
set(QWEN35_CUDA_FLAGS -std=c++17 -O3 -fmad=false --expt-relaxed-constexpr -Xptxas -v,-warn-spills,-warn-lmem-usage)

# nvcc of CUDA_HOME, of PATH, or of NVIDIA's packages in the Python that builds; and fatbinary beside it.
function(find_nvcc)
  find_package(Python QUIET COMPONENTS Interpreter)
  find_program(QWEN35_NVCC nvcc HINTS ENV CUDA_HOME PATHS ${Python_SITELIB}/nvidia/cu13 PATH_SUFFIXES bin)
  if(QWEN35_NVCC)
    get_filename_component(folder ${QWEN35_NVCC} DIRECTORY)
    find_program(QWEN35_FATBINARY fatbinary HINTS ${folder})
  endif()
endfunction()

# Why the kernels cannot be compiled here: what nvcc says of a file without any, for the newest architecture and with
# the compiler of the rest. Empty where they can.
function(try_nvcc absence)
  if(NOT QWEN35_NVCC OR NOT QWEN35_FATBINARY)
    set(${absence} "nvcc was looked for in CUDA_HOME, on PATH, and in the Python packages nvidia-cuda-nvcc" PARENT_SCOPE)
    return()
  endif()
  set(probe ${CMAKE_CURRENT_BINARY_DIR}/cuda/probe)
  list(GET QWEN35_CUDA_ARCHITECTURES -1 newest)
  file(WRITE ${probe}.cu "#include <cuda_fp16.h>\nextern \"C\" __global__ void probe(__half* x) { *x = __float2half(1); }\n")
  execute_process(COMMAND ${QWEN35_NVCC} ${QWEN35_CUDA_FLAGS} -ccbin ${CMAKE_CXX_COMPILER} -cubin -arch=sm_${newest}
    ${probe}.cu -o ${probe}.cubin RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    set(${absence} "${QWEN35_NVCC} does not compile for sm_${newest}: ${output}" PARENT_SCOPE)
  endif()
endfunction()

function(is_cuda_wanted wanted)
  set(${wanted} ${QWEN35_CUDA} PARENT_SCOPE)
  if(NOT QWEN35_CUDA STREQUAL "AUTO")
    return()
  endif()
  # pip names its folder of builds in the environment; `python -m build` has none.
  if(SKBUILD_STATE STREQUAL "wheel" AND NOT DEFINED ENV{PIP_BUILD_TRACKER})
    set(${wanted} ON PARENT_SCOPE)
  else()
    set(${wanted} OFF PARENT_SCOPE)
  endif()
endfunction()

# The commands that make `image`.
function(add_cuda_image image)
  set(source ${PROJECT_SOURCE_DIR}/csrc/devices/cuda/kernels.cu)
  set(entries "")
  set(cubins "")
  foreach(architecture ${QWEN35_CUDA_ARCHITECTURES})
    set(cubin ${CMAKE_CURRENT_BINARY_DIR}/cuda/sm_${architecture}.cubin)
    add_custom_command(OUTPUT ${cubin}
      COMMAND ${QWEN35_NVCC} ${QWEN35_CUDA_FLAGS} -ccbin ${CMAKE_CXX_COMPILER} -cubin -arch=sm_${architecture}
        -I${PROJECT_SOURCE_DIR}/csrc -MD -MF ${cubin}.d -MT ${cubin} ${source} -o ${cubin}
      DEPENDS ${source} DEPFILE ${cubin}.d COMMENT "Compiling CUDA kernels for sm_${architecture}" VERBATIM)
    list(APPEND cubins ${cubin})
    list(APPEND entries --image3=kind=elf,sm=${architecture},file=${cubin})
  endforeach()
  # Of fatbinary's modes only `size` compresses an image that is all machine code.
  add_custom_command(OUTPUT ${image}
    COMMAND ${QWEN35_FATBINARY} -64 --compress-mode=size --create=${image} ${entries}
    DEPENDS ${cubins} COMMENT "Bundling CUDA kernels" VERBATIM)
endfunction()

# Puts `image` into a target: by the assembler, or, where that has no .incbin, as an array.
function(embed_cuda_image target image)
  set(folder ${PROJECT_SOURCE_DIR}/csrc/devices/cuda)
  target_sources(${target} PRIVATE ${folder}/image.cpp)
  list(TRANSFORM QWEN35_CUDA_ARCHITECTURES PREPEND sm_ OUTPUT_VARIABLE names)
  list(JOIN names " " names)
  set_source_files_properties(${folder}/image.cpp PROPERTIES
    COMPILE_DEFINITIONS "QWEN35_CUDA_ARCHITECTURES=\"${names}\"")
  if(MSVC)
    set(array ${CMAKE_CURRENT_BINARY_DIR}/cuda/image_array.cpp)
    set(script ${PROJECT_SOURCE_DIR}/cmake/image_array.cmake)
    add_custom_command(OUTPUT ${array} COMMAND ${CMAKE_COMMAND} -DIMAGE=${image} -DARRAY=${array} -P ${script}
      DEPENDS ${image} ${script} VERBATIM)
    target_sources(${target} PRIVATE ${array})
  else()
    target_sources(${target} PRIVATE ${folder}/image.S)
    set_source_files_properties(${folder}/image.S PROPERTIES
      OBJECT_DEPENDS ${image} COMPILE_DEFINITIONS "QWEN35_CUDA_IMAGE=\"${image}\"")
  endif()
endfunction()

is_cuda_wanted(is_wanted)
set(absence "")
if(is_wanted)
  find_nvcc()
  try_nvcc(absence)
endif()
if(is_wanted AND NOT absence)
  message(STATUS "CUDA kernels: ${QWEN35_CUDA_ARCHITECTURES}, by ${QWEN35_NVCC}")
  if(NOT MSVC)
    enable_language(ASM)
  endif()
  set(QWEN35_CUDA_IMAGE ${CMAKE_CURRENT_BINARY_DIR}/cuda/kernels.fatbin)
  add_cuda_image(${QWEN35_CUDA_IMAGE})
  add_custom_target(cuda_image DEPENDS ${QWEN35_CUDA_IMAGE})
elseif(is_wanted AND NOT QWEN35_CUDA STREQUAL "AUTO")
  message(FATAL_ERROR "QWEN35_CUDA=ON, but ${absence}\nA compiler comes with: make cuda (docs/gpu.md)")
else()
  message(STATUS "CUDA kernels: none (QWEN35_CUDA=${QWEN35_CUDA}) ${absence}")
endif()
