// executor/thread_pool.h: a fixed team of threads that runs one function together.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace nextn {

// A barrier for threads that are expected within microseconds: spins, then yields.
class SpinBarrier {
public:
    explicit SpinBarrier(int count) : count_(count) {}

    void wait();

private:
    const int count_;
    std::atomic<int> arrived_{0};
    std::atomic<uint32_t> generation_{0};
};

class ThreadPool {
public:
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const { return threads_; }

    // Runs work(thread) on every thread, the caller being thread 0, and returns when all are done.
    // The work must not throw. Throws std::logic_error in a process that was forked from the pool's
    // own, where its threads do not exist.
    void run(const std::function<void(int)>& work);

    // To be called inside of work, by every thread.
    void barrier() { barrier_.wait(); }

private:
    void stop();
    void worker(int thread);
    bool wait_for_job(uint64_t seen);

    const int threads_;
    const long process_;
    SpinBarrier barrier_;
    SpinBarrier finished_;
    const std::function<void(int)>* work_ = nullptr;
    std::atomic<uint64_t> job_{0};
    std::atomic<bool> stopping_{false};
    struct Sleep {
        std::mutex mutex;
        std::condition_variable wake;
    };
    std::unique_ptr<Sleep> sleep_ = std::make_unique<Sleep>();
    std::vector<std::thread> workers_;
};

}  // namespace nextn
