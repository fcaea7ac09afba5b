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

// Where threads sleep that have spun for long enough.
struct Sleep {
    std::mutex mutex;
    std::condition_variable wake;

    // To be called after a change that others may sleep for. Whoever looked before the change holds
    // the mutex until it sleeps.
    void wake_all() {
        {
            const std::lock_guard<std::mutex> lock(mutex);
        }
        wake.notify_all();
    }
};

// A barrier for threads that are expected within microseconds: spins, then sleeps.
class SpinBarrier {
public:
    SpinBarrier(int count, Sleep& sleep) : count_(count), sleep_(sleep) {}

    void wait();

private:
    const int count_;
    Sleep& sleep_;
    std::atomic<int> arrived_{0};
    std::atomic<uint32_t> generation_{0};
    std::atomic<int> sleepers_{0};
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
    std::unique_ptr<Sleep> sleep_ = std::make_unique<Sleep>();
    SpinBarrier barrier_;
    SpinBarrier finished_;
    const std::function<void(int)>* work_ = nullptr;
    std::atomic<uint64_t> job_{0};
    std::atomic<bool> stopping_{false};
    std::vector<std::thread> workers_;
};

}  // namespace nextn
