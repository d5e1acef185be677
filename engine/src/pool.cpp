#include "pool.h"

namespace prunus {
namespace {

// A layer follows another within microseconds, a waking thread takes tens of them: threads look for
// so long before they sleep.
constexpr int kLooks = 4000;

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
  for (int task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;)
    (*work_)(task, thread);
}

void ThreadPool::share(int tasks, const std::function<void(int, int)>& work) {
  if (workers_.empty() || tasks <= 1) {
    for (int task = 0; task < tasks; ++task) work(task, 0);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    work_ = &work;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    call_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  take(0);
  // Another's last task may be long, or its processor taken away by other programs.
  for (int look = 0; busy_.load(std::memory_order_acquire) > 0; ++look)
    look < kLooks ? breathe() : std::this_thread::yield();
}

void ThreadPool::serve(int thread) {
  unsigned seen = 0;
  while (true) {
    for (int look = 0; look < kLooks && call_.load(std::memory_order_acquire) == seen; ++look) breathe();
    if (call_.load(std::memory_order_acquire) == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || call_.load(std::memory_order_acquire) != seen; });
    }
    if (stop_) return;
    ++seen;
    take(thread);
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace prunus
