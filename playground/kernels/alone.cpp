// What a C++ runtime has for exceptions and threads, where neither is: a throw ends the call in a trap, which the page
// catches as an error of its own.
#include <cstddef>

extern "C" {
void* __cxa_allocate_exception(std::size_t) { __builtin_trap(); }
void __cxa_throw(void*, void*, void (*)(void*)) { __builtin_trap(); }
int __cxa_thread_atexit(void (*)(void*), void*, void*) { return 0; }
}
