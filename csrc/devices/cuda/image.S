// The fat binary that cmake/cuda_image.cmake makes, as the array of image.cpp.
#if defined(__linux__)
        .section .note.GNU-stack, "", %progbits
#endif
        .section .rodata
        .globl qwen35_cuda_image
        .hidden qwen35_cuda_image
        .balign 64
qwen35_cuda_image:
        .incbin QWEN35_CUDA_IMAGE
