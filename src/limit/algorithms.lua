local DEFINED = {}

local function defined(name)
  local functions = DEFINED[name] or DEFINE[name]()
  DEFINED[name] = functions
  return functions
end

-- The function that makes a step of the algorithm called `name`.
local function algorithm(name)
  return defined(name)[1]
end

-- The function that reads a state in part, straight from Redis; nil for most algorithms.
local function reader(name)
  return defined(name)[3]
end

-- The one that takes hits back.
local function undo(name)
  return defined(name)[2]
end

