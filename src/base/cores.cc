// How many threads are worth starting: the cores that this process may use, siblings of one core (SMT) counted once, no more than the
// container's processor quota; and how much memory there is. Sources: sched_getaffinity, /sys/devices/system/cpu/*/topology, /proc/meminfo,
// cgroup v2 cpu.max, memory.max, memory.current and memory.stat.
// Does not handle: cgroup v1 limits, and limits set on a parent group that the container cannot see.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "base/pool.h"

namespace fettle {
namespace {

std::string first_line(const std::string& path) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
  char line[256] = {};
  if (!file || !std::fgets(line, sizeof line, file.get())) return {};
  return line;
}

// Cores among the processors in the mask; a processor without topology counts as a core of its own.
int cores_in(const cpu_set_t& allowed) {
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    std::string siblings = first_line(folder + "thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu " + std::to_string(cpu) : siblings);
  }
  return int(cores.size());
}

// "200000 100000" means two processors' worth; "max ..." or no file means no quota.
int quota() {
  double share = 0, period = 0;
  if (std::sscanf(first_line("/sys/fs/cgroup/cpu.max").c_str(), "%lf %lf", &share, &period) != 2 || period <= 0) return 0;
  return std::max(1, int(std::lround(share / period)));
}

// The number behind `name` in a file of lines "name number ...".
std::optional<uint64_t> entry(const char* path, const std::string& name) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path, "re"), std::fclose);
  char line[256], key[128];
  unsigned long long value = 0;
  while (file && std::fgets(line, sizeof line, file.get()))
    if (std::sscanf(line, "%127s %llu", key, &value) == 2 && name == key) return value;
  return std::nullopt;
}

// Of the container's group; nothing where there is none, or "max".
std::optional<uint64_t> group_memory(const char* file) {
  unsigned long long value = 0;
  if (std::sscanf(first_line(std::string("/sys/fs/cgroup/") + file).c_str(), "%llu", &value) != 1) return std::nullopt;
  return value;
}

}  // namespace

int physical_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  int cores = ::sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? cores_in(allowed) : int(std::thread::hardware_concurrency());
  if (int limit = quota(); limit > 0) cores = std::min(cores, limit);
  return std::max(cores, 1);
}

uint64_t machine_memory() {
  const uint64_t whole = uint64_t(::sysconf(_SC_PHYS_PAGES)) * uint64_t(::sysconf(_SC_PAGESIZE));
  return std::min(whole, group_memory("memory.max").value_or(whole));
}

uint64_t free_memory() {
  const std::optional<uint64_t> kilobytes = entry("/proc/meminfo", "MemAvailable:");
  const uint64_t available = kilobytes ? *kilobytes * 1024 : machine_memory();
  const std::optional<uint64_t> limit = group_memory("memory.max"), used = group_memory("memory.current");
  if (!limit || !used) return available;
  const uint64_t cached = std::min(*used, entry("/sys/fs/cgroup/memory.stat", "file").value_or(0));  // files' pages go when memory is short
  return std::min(available, *limit - std::min(*limit, *used - cached));
}

}  // namespace fettle
