// Threads that share out numbered tasks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace prunus {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }
  // Calls work(task, thread) for each task in [0, tasks), on all threads, whoever is free taking the
  // next; returns when all are done, which a thread that sleeps does not delay. Work must not throw.
  void share(int tasks, const std::function<void(int, int)>& work);

 private:
  void serve(int thread);
  void take(int thread);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  const std::function<void(int, int)>* work_ = nullptr;
  // Which set of tasks, how many there are, and which comes next, in one number: a thread that is
  // late can so take no task of a set that it does not know. Bits: 16, 24 and 24.
  std::atomic<std::uint64_t> ticket_{0};
  std::atomic<int> done_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace prunus
