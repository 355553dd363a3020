-- Calls a function with each command of argv from a place on. Each command stands after the number
-- of its words.
local function each_command(argv, at, run)
  while at <= #argv do
    run(unpack(argv, at + 1, at + argv[at]))
    at = at + 1 + argv[at]
  end
end
