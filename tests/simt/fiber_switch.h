// Saves the callee-saved registers and the stack of this fiber, and takes up those of another.
#pragma once

extern "C" void simt_switch(void** save, void* to);

namespace simt {

// What simt_switch takes up to begin `entry` on an empty stack.
inline void* fresh_stack_pointer(void** top, void (*entry)()) {
  *--top = nullptr;  // the return address of `entry`, which never returns
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;  // the registers
  return top;
}

}  // namespace simt
