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

-- The one that reads what is kept under a key, without all of it, if there is one.
local function reader(name)
  return defined(name)[3]
end

-- The one that takes hits back.
local function undo(name)
  return defined(name)[2]
end

