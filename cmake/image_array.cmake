# cmake -DIMAGE=file -DARRAY=file.cpp -P image_array.cmake: a file's bytes as the array that image.cpp reads.
file(READ ${IMAGE} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR rest "(16 - ${digits} % 16) % 16")
string(REPEAT "0" ${rest} zeros)
set(two "([0-9a-f][0-9a-f])")
string(REGEX REPLACE "${two}${two}${two}${two}${two}${two}${two}${two}" "0x\\8\\7\\6\\5\\4\\3\\2\\1,\n" words "${bytes}${zeros}")
file(WRITE ${ARRAY} "extern \"C\" const unsigned long long qwen35_cuda_image[];\n"
  "const unsigned long long qwen35_cuda_image[] = {\n${words}};\n")
