// How many threads are worth starting: the cores that this process may use, siblings of one core (SMT) counted once, no more than the
// container's processor quota. Sources: sched_getaffinity, /sys/devices/system/cpu/*/topology, cgroup v2 cpu.max.
// Does not handle: cgroup v1 quotas, and quotas set on a parent group that the container cannot see.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
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

}  // namespace

int physical_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  int cores = ::sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? cores_in(allowed) : int(std::thread::hardware_concurrency());
  if (int limit = quota(); limit > 0) cores = std::min(cores, limit);
  return std::max(cores, 1);
}

uint64_t machine_memory() { return uint64_t(::sysconf(_SC_PHYS_PAGES)) * uint64_t(::sysconf(_SC_PAGESIZE)); }

}  // namespace fettle
