// Threads that share out numbered tasks.
#pragma once

#include <atomic>
#include <condition_variable>
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
  // next; returns when all are done. Work must not throw.
  void share(int tasks, const std::function<void(int, int)>& work);

 private:
  void serve(int thread);
  void take(int thread);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  const std::function<void(int, int)>* work_ = nullptr;
  std::atomic<unsigned> call_{0};   // grows by one with each set of tasks
  std::atomic<int> next_{0}, busy_{0};
  int tasks_ = 0;
  std::atomic<bool> stop_{false};
};

}  // namespace prunus
