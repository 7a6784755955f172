local DEFINED = {}

local function defined(name)
  local functions = DEFINED[name] or DEFINE[name]()
  DEFINED[name] = functions
  return functions
end

-- The function that computes a charge with the algorithm `name`.
local function algorithm(name)
  return defined(name)[1]
end

-- The function that reads a part of a state from Redis; nil for most algorithms.
local function reader(name)
  return defined(name)[3]
end

-- The function that undoes granted hits.
local function undo(name)
  return defined(name)[2]
end

