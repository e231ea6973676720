#include "settings.h"

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <string>

namespace simt {

namespace {

Settings from_environment() {
  Settings found;
  const auto look_up = [](const char* key, long& value) {
    std::string name = "SIMT_";
    for (const char* c = key; *c; ++c) name += static_cast<char>(std::toupper(*c));
    if (const char* text = std::getenv(name.c_str())) value = std::strtol(text, nullptr, 0);
  };
#define SIMT_SETTING(key, value) look_up(#key, found.key);
  SIMT_SETTINGS(SIMT_SETTING)
#undef SIMT_SETTING
  return found;
}

}  // namespace

long* Settings::find(const char* key) {
#define SIMT_SETTING(name, value) \
  if (!std::strcmp(key, #name)) return &name;
  SIMT_SETTINGS(SIMT_SETTING)
#undef SIMT_SETTING
  return nullptr;
}

Settings& settings() {
  static Settings all = from_environment();
  return all;
}

}  // namespace simt
