#include "pool.h"

#include <algorithm>

namespace prunus {
namespace {

// A layer follows another within microseconds, a waking thread takes tens of them: threads look for
// so long before they sleep.
constexpr int kLooks = 4000;
constexpr std::uint64_t kField = (1 << 24) - 1;
constexpr int kMostTasks = (1 << 24) - (1 << 12);  // room for threads that ask beyond the last

inline void breathe() {
#ifdef PRUNUS_X86
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  for (int thread = 1; thread < threads; ++thread)
    workers_.emplace_back([this, thread] { serve(thread); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::take(int thread) {
  while (true) {
    const std::uint64_t ticket = ticket_.fetch_add(1, std::memory_order_acq_rel);
    const auto task = static_cast<int>(ticket & kField), tasks = static_cast<int>(ticket >> 24 & kField);
    if (task >= tasks) return;
    // While one of its tasks is not done, a set is not over, and so its work still there.
    (*work_)(task, thread);
    done_.fetch_add(1, std::memory_order_release);
  }
}

void ThreadPool::share(int tasks, const std::function<void(int, int)>& work) {
  if (workers_.empty() || tasks <= 1) {
    for (int task = 0; task < tasks; ++task) work(task, 0);
    return;
  }
  if (tasks > kMostTasks) {
    for (int from = 0; from < tasks; from += kMostTasks)
      share(std::min(kMostTasks, tasks - from), [&](int task, int thread) { work(from + task, thread); });
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    work_ = &work;
    done_.store(0, std::memory_order_relaxed);
    const std::uint64_t set = (ticket_.load(std::memory_order_relaxed) >> 48) + 1;
    ticket_.store(set << 48 | static_cast<std::uint64_t>(tasks) << 24, std::memory_order_release);
  }
  wake_.notify_all();
  take(0);
  // Another's last task may be long, or its processor taken away by other programs.
  for (int look = 0; done_.load(std::memory_order_acquire) < tasks; ++look)
    look < kLooks ? breathe() : std::this_thread::yield();
}

void ThreadPool::serve(int thread) {
  std::uint64_t seen = 0;
  const auto is_new = [&] { return ticket_.load(std::memory_order_acquire) >> 48 != seen; };
  while (true) {
    for (int look = 0; look < kLooks && !is_new() && !stop_; ++look) breathe();
    if (!is_new()) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || is_new(); });
    }
    if (stop_) return;
    seen = ticket_.load(std::memory_order_acquire) >> 48;
    take(thread);
  }
}

}  // namespace prunus
