// Named checks of a program: what they find wrong is named, and makes the exit status.
#pragma once

#include <cstdio>
#include <initializer_list>

struct Check {
  const char* name;
  bool (*holds)();
};

inline int run_checks(std::initializer_list<Check> checks) {
  int wrong = 0;
  for (const Check& check : checks) {
    if (check.holds()) continue;
    std::printf("wrong: %s\n", check.name);
    ++wrong;
  }
  return wrong != 0;
}
