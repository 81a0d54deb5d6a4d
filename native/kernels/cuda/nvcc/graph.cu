// Pieces of a step on a card: launches one by one, or an executable graph of them.
#include <new>
#include <vector>

#include "kernels/cuda/nvcc/queue.h"

namespace tokensieve {

using kernels::cuda::kMostArguments;
using kernels::cuda::Launches;

namespace {

struct Graph {
  cudaGraph_t list = nullptr;
  cudaGraphExec_t ready = nullptr;
  std::vector<cudaGraphNode_t> nodes;
};

// values [kMostArguments]
cudaKernelNodeParams node(const Launches& all, size_t i, const uint8_t** values) noexcept {
  all.values(i, values);
  const kernels::cuda::Launch& launch = all[i];
  cudaKernelNodeParams params = {};
  params.func = const_cast<void*>(launch.kernel);
  params.gridDim = dim3(launch.grid.x, launch.grid.y, launch.grid.z);
  params.blockDim = dim3(launch.block.x, launch.block.y, launch.block.z);
  params.sharedMemBytes = static_cast<unsigned>(launch.shared);
  params.kernelParams = reinterpret_cast<void**>(const_cast<uint8_t**>(values));
  return params;
}

}  // namespace

void Queue::copy_block(size_t from, size_t to) noexcept {
  note(cudaMemcpyAsync(ring + kBlock + from, host + kBlock + from, to - from, cudaMemcpyHostToDevice, stream));
  note(cudaEventRecord(copied, stream));
}

void Queue::launch(const Launches& all, size_t i) noexcept {
  const uint8_t* values[kMostArguments];
  const cudaKernelNodeParams p = node(all, i, values);
  note(cudaLaunchKernel(p.func, p.gridDim, p.blockDim, p.kernelParams, p.sharedMemBytes, stream));
}

// Each launch behind the one before: a straight line, which drivers launch at once.
void* Queue::make_graph(const Launches& all) noexcept {
  Graph* const graph = new (std::nothrow) Graph;
  if (graph == nullptr) return nullptr;
  bool made = cudaGraphCreate(&graph->list, 0) == cudaSuccess;
  try {
    graph->nodes.resize(all.size());
  } catch (const std::bad_alloc&) {
    made = false;
  }
  for (size_t i = 0; made && i < all.size(); i++) {
    const uint8_t* values[kMostArguments];
    const cudaKernelNodeParams params = node(all, i, values);
    const cudaGraphNode_t* const before = i > 0 ? &graph->nodes[i - 1] : nullptr;
    made = cudaGraphAddKernelNode(&graph->nodes[i], graph->list, before, i > 0 ? 1 : 0, &params) == cudaSuccess;
  }
  made = made && cudaGraphInstantiate(&graph->ready, graph->list, 0) == cudaSuccess;
  if (made) return graph;
  cudaGetLastError();
  drop_graph(graph);
  return nullptr;
}

bool Queue::set_launch(void* graph, const Launches& all, size_t i) noexcept {
  const uint8_t* values[kMostArguments];
  const cudaKernelNodeParams params = node(all, i, values);
  const Graph& g = *static_cast<const Graph*>(graph);
  if (cudaGraphExecKernelNodeSetParams(g.ready, g.nodes[i], &params) == cudaSuccess) return true;
  cudaGetLastError();
  return false;
}

void Queue::run_graph(void* graph) noexcept { note(cudaGraphLaunch(static_cast<const Graph*>(graph)->ready, stream)); }

void Queue::drop_graph(void* graph) noexcept {
  Graph* const g = static_cast<Graph*>(graph);
  if (g->ready) {
    note(cudaStreamSynchronize(stream));  // it may be under way
    cudaGraphExecDestroy(g->ready);
  }
  if (g->list) cudaGraphDestroy(g->list);
  delete g;
}

}  // namespace tokensieve
