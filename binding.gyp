# A thin wrapper, for those who call node-gyp themselves: everything ends in the one CMake build.
{
  "targets": [{
    "target_name": "addon",
    "type": "none",
    "actions": [{
      "action_name": "cmake",
      "inputs": ["CMakeLists.txt"],
      "outputs": ["<(PRODUCT_DIR)/addon.node"],
      "action": ["node", "native/build.mjs"]
    }]
  }]
}
