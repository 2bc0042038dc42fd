import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;
import software.amazon.event.ruler.Machine;

/** event-ruler on the rules and events of a folder: measures and prints what `matcher-bench` does. */
public final class MatcherBench {
    private static final int SHOWN = 200;
    private static final double PASSES = 0.5;
    /** The virtual machine compiles what it has seen for a while. */
    private static final double WARM_UP = 3;

    private final Machine machine = new Machine();
    private final List<String> events;
    private final double limit;

    private MatcherBench(List<String> events, double limit) {
        this.events = events;
        this.limit = limit;
    }

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        int rules = Integer.parseInt(arguments[1]);
        List<String> events = Files.readAllLines(folder.resolve("events.jsonl"));
        MatcherBench bench = new MatcherBench(events, Double.parseDouble(arguments[2]));
        try (BufferedReader lines = Files.newBufferedReader(folder.resolve("rules.jsonl"))) {
            System.out.println(bench.measure(lines, rules));
        }
    }

    private String measure(BufferedReader lines, int rules) throws Exception {
        long before = used();
        long start = System.nanoTime();
        for (int id = 0; id < rules; id++) {
            machine.addRule(Integer.toString(id), lines.readLine());
            if (id % 64 == 0 && since(start) > limit) {
                throw new IOException(id + " rules took more than " + limit + " s");
            }
        }
        machine.rulesForJSONEvent(events.get(0));
        double build = since(start);
        long bytes = used() - before;
        passes(WARM_UP);
        double match = passes(PASSES);
        String matches = matches();
        return String.format(
                Locale.ROOT,
                "{\"build_us_per_rule\":%f,\"bytes_per_rule\":%f,\"match_us\":%f,\"insert_us\":%f,\"matches\":%s}",
                build * 1e6 / rules, (double) bytes / rules, match, inserts(lines, rules), matches);
    }

    private double passes(double seconds) throws Exception {
        List<Double> times = new ArrayList<>();
        long start = System.nanoTime();
        while (since(start) < seconds) {
            long pass = System.nanoTime();
            int matched = 0;
            for (String event : events) {
                machine.rulesForJSONEvent(event);
                matched++;
                if (matched % 64 == 0 && since(start) > limit) {
                    break;
                }
            }
            times.add(since(pass) * 1e6 / matched);
        }
        return median(times);
    }

    private String matches() throws Exception {
        StringBuilder text = new StringBuilder("[");
        long start = System.nanoTime();
        for (int index = 0; index < SHOWN && since(start) < limit; index++) {
            List<String> ids = machine.rulesForJSONEvent(events.get(index));
            String list = ids.stream().map(Integer::valueOf).sorted().map(String::valueOf).collect(Collectors.joining(","));
            text.append(index == 0 ? "[" : ",[").append(list).append("]");
        }
        return text.append("]").toString();
    }

    private double inserts(BufferedReader lines, int id) throws Exception {
        List<Double> times = new ArrayList<>();
        long start = System.nanoTime();
        for (String rule = lines.readLine(); rule != null && since(start) < limit / 5; rule = lines.readLine()) {
            long insert = System.nanoTime();
            machine.addRule(Integer.toString(id + times.size()), rule);
            machine.rulesForJSONEvent(events.get(0));
            times.add(since(insert) * 1e6);
        }
        return median(times);
    }

    private static double median(List<Double> values) {
        Collections.sort(values);
        return values.get(values.size() / 2);
    }

    private static double since(long start) {
        return (System.nanoTime() - start) / 1e9;
    }

    private static long used() {
        for (int round = 0; round < 3; round++) {
            System.gc();
        }
        Runtime runtime = Runtime.getRuntime();
        return runtime.totalMemory() - runtime.freeMemory();
    }
}
