enum Color { RED = 1, GREEN, BLUE }

struct Point { 1: i32 x; 2: i32 y; }

exception Failed {}
