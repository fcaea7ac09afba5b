// executor/thread_pool.cpp
#include "executor/thread_pool.h"

#include <unistd.h>

#include <chrono>
#include <stdexcept>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace nextn {

namespace {

// Spins before a thread sleeps at a barrier: some 50 microseconds. One that sleeps is given a core
// as soon as it is woken, where one that spins on or yields loses whole time slices to busy
// programs.
constexpr int kBarrierSpins = 2000;

// How long a thread spins for the next work before it sleeps: to wake it takes a tenth of a
// millisecond, and between steps and drafts whoever asked for the text does something with it. How
// long a pause takes differs by processor, so this is a time, and read now and then.
constexpr std::chrono::microseconds kIdle{2000};
constexpr int kSpinsPerLook = 64;

void pause_briefly() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

void SpinBarrier::wait() {
    const uint32_t generation = generation_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
        arrived_.store(0, std::memory_order_relaxed);
        // In one order for all threads: either this one sees who sleeps, or who goes to sleep sees
        // that it need not.
        generation_.store(generation + 1, std::memory_order_seq_cst);
        if (sleepers_.load(std::memory_order_seq_cst) != 0) sleep_.wake_all();
        return;
    }
    for (int spins = 0; spins < kBarrierSpins; ++spins) {
        if (generation_.load(std::memory_order_acquire) != generation) return;
        pause_briefly();
    }
    std::unique_lock<std::mutex> lock(sleep_.mutex);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    sleep_.wake.wait(lock, [&] { return generation_.load() != generation; });
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
}

ThreadPool::ThreadPool(int threads)
    : threads_(threads),
      process_(getpid()),
      barrier_(threads, *sleep_),
      finished_(threads, *sleep_) {
    try {
        for (int thread = 1; thread < threads; ++thread) {
            workers_.emplace_back([this, thread] { worker(thread); });
        }
    } catch (...) {
        stop();
        throw;
    }
}

ThreadPool::~ThreadPool() {
    if (getpid() == process_) {
        stop();
    } else {
        // The threads are not here, and to destroy what they slept on would wait for them.
        for (std::thread& thread : workers_) thread.detach();
        (void)sleep_.release();
    }
}

void ThreadPool::stop() {
    stopping_.store(true);
    job_.fetch_add(1);
    sleep_->wake_all();
    for (std::thread& thread : workers_) thread.join();
}

void ThreadPool::run(const std::function<void(int)>& work) {
    if (getpid() != process_) {
        throw std::logic_error(
            "[executor] this process was forked after the model was loaded; load it again here");
    }
    work_ = &work;
    job_.fetch_add(1, std::memory_order_release);
    sleep_->wake_all();
    work(0);
    finished_.wait();
}

bool ThreadPool::wait_for_job(uint64_t seen) {
    const auto sleeping = std::chrono::steady_clock::now() + kIdle;
    do {
        for (int spins = 0; spins < kSpinsPerLook; ++spins) {
            if (job_.load(std::memory_order_acquire) != seen) return !stopping_.load();
            pause_briefly();
        }
    } while (std::chrono::steady_clock::now() < sleeping);
    std::unique_lock<std::mutex> lock(sleep_->mutex);
    sleep_->wake.wait(lock, [&] { return job_.load() != seen; });
    return !stopping_.load();
}

void ThreadPool::worker(int thread) {
    for (uint64_t seen = 0; wait_for_job(seen);) {
        ++seen;
        (*work_)(thread);
        finished_.wait();
    }
}

}  // namespace nextn
