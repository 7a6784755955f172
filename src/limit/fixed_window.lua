-- `start` is 0 where the name of the counter says which window it is of, and the state
-- is then an integer that any client may INCRBY; else it is `start:count`. `rest` is
-- what is left of the window.
local function fixed_window_state(state, start)
  if start == 0 then
    if string.find(state, '^%-?%d+$') then
      -- Another client may have taken it out of its range.
      return 0, math.min(math.max(tonumber(state), 0), MOST)
    end
    return 0, 0
  end
  local began, count = numbers(state, 2)
  if began and start <= began then
    return began, count
  end
  return start, 0
end

local function fixed_window_text(began, count)
  return began == 0 and text(count) or text(began) .. ':' .. text(count)
end

local function fixed_window(state, hits, requests, count_denied, start, length, rest)
  local began, before = fixed_window_state(state, start)
  local after, passes = math.max(before + hits, 0), true
  if 0 <= hits then
    after = math.min(after, MOST)
    passes = forced or after <= requests
    if not passes and count_denied == 0 then
      after = before
    end
  end
  local life = began == start and rest or life_after(began, length)
  return passes, { began, before }, { began, after }, after ~= before and fixed_window_text(began, after), life
end

local function undo_fixed_window(state, hits, told_start, _, _, _, _, start, length, rest)
  local began, count = fixed_window_state(state, start)
  if began == told_start and 0 < math.min(count, hits) then
    return fixed_window_text(began, math.max(count - hits, 0)), began == start and rest or life_after(began, length)
  end
end
