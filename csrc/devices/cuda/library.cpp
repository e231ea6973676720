#include "devices/cuda/library.h"

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace qwen35::cuda {

#if defined(_WIN32)

Library::Library() : handle_(LoadLibraryExW(L"nvcuda.dll", nullptr, LOAD_LIBRARY_SEARCH_SYSTEM32)) {
  if (handle_) return;
  is_missing_ = GetLastError() == ERROR_MOD_NOT_FOUND;
  error_ = "nvcuda.dll: error " + std::to_string(GetLastError());
}

void* Library::find(const char* symbol) const noexcept {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(handle_), symbol));
}

#else

Library::Library() : handle_(dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)) {
  if (handle_) return;
  const char* error = dlerror();
  error_ = error ? error : "libcuda.so.1 cannot be opened";
  is_missing_ = error_.find("cannot open shared object file") != std::string::npos;  // dlopen has no number for it
}

void* Library::find(const char* symbol) const noexcept { return dlsym(handle_, symbol); }

#endif

}  // namespace qwen35::cuda
